#pragma once
/* Windows as a wall calendar cuts them: hours, days, weeks, months, quarters, years of a time zone
 * of the system's tzdata. [start, end) with start the first instant of the local date, so windows
 * are contiguous: a day is 23 or 25 hours where the clocks change, and a date that a zone skipped
 * altogether is an empty window no row lies in. Pure functions. */
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

struct weir_zone;

enum weir_calendar_unit {
    WEIR_CALENDAR_NONE, /* windows of a fixed size */
    WEIR_CALENDAR_DAY,
    WEIR_CALENDAR_WEEK,
    WEIR_CALENDAR_MONTH,
    WEIR_CALENDAR_QUARTER,
    WEIR_CALENDAR_YEAR
};

struct weir_calendar {
    enum weir_calendar_unit unit;
    int32_t week_start;           /* first day of a week: 0 Monday .. 6 Sunday */
    const struct weir_zone *zone; /* lives as long as the process */
};

bool weir_calendar_unit_parse(const char *text, enum weir_calendar_unit *unit);
/* WEIR_E_CONFIG: no such zone on this machine. */
int weir_calendar_init(struct weir_calendar *calendar, enum weir_calendar_unit unit,
                       int32_t week_start, const char *zone,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The window a time lies in. Times beyond +-250,000 years are cut off there. */
void weir_calendar_window(const struct weir_calendar *calendar, int64_t time_us, int64_t *start_us,
                          int64_t *end_us);
