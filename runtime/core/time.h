#pragma once
/* Civil time in C: the functions of abi/native.h, and what only C uses. The calendar is proleptic
 * Gregorian; day numbers count from 1970-01-01. Pure functions, any thread. */
#include <stdbool.h>

#include "abi/abi.h"

#define WEIR_US_PER_SECOND 1000000ll
#define WEIR_US_PER_DAY 86400000000ll

struct weir_civil {
    int64_t year;
    int32_t month; /* 1..12 */
    int32_t day;   /* 1..31 */
};

int64_t weir_days_from_civil(int64_t year, int32_t month, int32_t day);
struct weir_civil weir_civil_from_days(int64_t days);
int32_t weir_days_in_month(int64_t year, int32_t month);

static inline int64_t weir_floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

const char *weir_zone_name(const struct weir_zone *zone); /* as it was asked for */
/* A zone's abbreviation at an instant ("GMT", "BST", "+02"). Lives as long as the zone. */
const char *weir_zone_abbreviation(const struct weir_zone *zone, int64_t utc_seconds);
