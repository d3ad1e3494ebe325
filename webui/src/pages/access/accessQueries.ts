// SPDX-License-Identifier: Apache-2.0
import { queryOptions } from "@tanstack/react-query";

import { api, callAll } from "../../api/client";
import type { components } from "../../api/schema";

export type User = components["schemas"]["User"];
export type Token = components["schemas"]["Token"];
export type EnrolmentToken = components["schemas"]["EnrolmentToken"];
export type AccessRole = User["role"];
export const ROLES: readonly AccessRole[] = ["viewer", "operator", "admin"];
export const PEERS: readonly EnrolmentToken["role"][] = ["agent", "node", "vault"];

export const usersQuery = queryOptions({ queryKey: ["users"], queryFn: () => callAll((cursor) => api.GET("/api/v1/users", { params: { query: { limit: 500, cursor } } })) });
export const tokensQuery = queryOptions({ queryKey: ["tokens"], queryFn: () => callAll((cursor) => api.GET("/api/v1/tokens", { params: { query: { limit: 500, cursor } } })) });
export const enrolmentQuery = queryOptions({ queryKey: ["enrolment"], queryFn: () => callAll((cursor) => api.GET("/api/v1/enrolment-tokens", { params: { query: { limit: 500, cursor } } })), refetchInterval: 5000 });
