# SPDX-License-Identifier: Apache-2.0
"""One measured figure: a JSON line on standard output, its goal beside it. Everything else goes to standard error."""
import json
import operator
import statistics
import time

COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def figure(name, value, unit, goal, peers=None, leeward=None):
    """goal: "<= 1.25"; met is computed, never given. Returns whether it is met."""
    sign, number = goal.split()
    met = bool(COMPARE[sign](value, float(number)))
    print(json.dumps({"figure": name, "value": round(value, 4), "unit": unit, "goal": goal, "met": met,
                      "peers": peers or {}, "leeward": leeward or {}}), flush=True)
    return met


def timed(function, *arguments):
    """Seconds that it took, and what it returned."""
    begin = time.monotonic()
    result = function(*arguments)
    return time.monotonic() - begin, result


def percentile(values, share):
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]
