/* SPDX-License-Identifier: Apache-2.0
 *
 * The overview: everything that the first page of the console shows, in one answer.
 */
#include "hub/api/serve.h"

#include "hub/api/row_json.h"
#include "hub/core/alert.h"
#include "hub/db/overview_store.h"
#include "transport/base/clock.h"

/* Words for people, and where the list behind the number is. */
static int add_titles(json_t *overview)
{
    json_t *problems = json_object_get(overview, "problems"), *problem;
    size_t i;

    json_array_foreach(problems, i, problem)
    {
        const char *code = json_string_value(json_object_get(problem, "code"));

        if (json_object_set_new(problem, "title", json_string(alert_title(code ? code : ""))) < 0 ||
            json_object_set_new(problem, "link", json_sprintf("/alerts?code=%s", code ? code : "")) < 0)
            return -1;
    }
    return 0;
}

int serve_overview(struct request *r, struct err *err)
{
    AUTO_FREE char *text = NULL;
    json_t *overview;

    if (overview_get(r->conn, &text, err) < 0)
        return -1;
    overview = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!overview || add_titles(overview) < 0 ||
        json_object_set_new(overview, "time", row_json_time(clock_utc_usec())) < 0) {
        json_decref(overview);
        return err_set(err, ERR_NOMEM, "no memory for the overview");
    }
    return reply_json(r, 200, overview, err);
}
