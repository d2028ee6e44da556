#include "operator/calendar.h"

#include <string.h>

#include "core/time.h"

/* Local midnights are computed in microseconds: this keeps them and their zones' offsets far from
 * the ends of int64. */
static const int64_t time_max = INT64_C(250000) * 366 * WEIR_US_PER_DAY / 11;

bool weir_calendar_unit_parse(const char *text, enum weir_calendar_unit *unit) {
    static const char *const names[] = {"day", "week", "month", "quarter", "year"};
    for (int i = 0; i < 5; i++) {
        if (strcmp(text, names[i]) == 0) {
            *unit = (enum weir_calendar_unit)(WEIR_CALENDAR_DAY + i);
            return true;
        }
    }
    return false;
}

int weir_calendar_init(struct weir_calendar *calendar, enum weir_calendar_unit unit,
                       int32_t week_start, const char *zone, struct weir_error *err) {
    *calendar = (struct weir_calendar){.unit = unit, .week_start = week_start};
    calendar->zone = weir_zone_find(zone, (int64_t)strlen(zone));
    if (calendar->zone == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "no time zone is called '%s' on this machine (is tzdata installed?)",
                              zone);
    }
    return WEIR_OK;
}

/* The first day of the window a local day lies in, `windows` windows later. */
static int64_t first_day(const struct weir_calendar *calendar, int64_t day, int64_t windows) {
    if (calendar->unit == WEIR_CALENDAR_DAY) {
        return day + windows;
    }
    if (calendar->unit == WEIR_CALENDAR_WEEK) {
        int64_t shifted = day + 3 - calendar->week_start; /* day 0 was a Thursday */
        return day - (shifted - weir_floor_div(shifted, 7) * 7) + windows * 7;
    }
    int64_t months = calendar->unit == WEIR_CALENDAR_MONTH     ? 1
                     : calendar->unit == WEIR_CALENDAR_QUARTER ? 3
                                                               : 12;
    struct weir_civil civil = weir_civil_from_days(day);
    int64_t month = civil.year * 12 + civil.month - 1;
    month = (weir_floor_div(month, months) + windows) * months;
    int64_t year = weir_floor_div(month, 12);
    return weir_days_from_civil(year, (int32_t)(month - year * 12) + 1, 1);
}

static int64_t begins(const struct weir_calendar *calendar, int64_t day) {
    return weir_zone_to_utc(calendar->zone, day * WEIR_US_PER_DAY);
}

void weir_calendar_window(const struct weir_calendar *calendar, int64_t time_us, int64_t *start_us,
                          int64_t *end_us) {
    time_us = time_us > time_max ? time_max : time_us < -time_max ? -time_max : time_us;
    int64_t seconds = weir_floor_div(time_us, WEIR_US_PER_SECOND);
    int64_t local = time_us + weir_zone_offset(calendar->zone, seconds) * WEIR_US_PER_SECOND;
    int64_t day = first_day(calendar, weir_floor_div(local, WEIR_US_PER_DAY), 0);
    /* Where clocks go back over midnight a local date is not told by the offset alone. */
    while (begins(calendar, day) > time_us) {
        day = first_day(calendar, day, -1);
    }
    int64_t next = first_day(calendar, day, 1);
    while (begins(calendar, next) <= time_us) {
        day = next;
        next = first_day(calendar, day, 1);
    }
    *start_us = begins(calendar, day);
    *end_us = begins(calendar, next);
}
