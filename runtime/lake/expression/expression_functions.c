/* The functions expressions may call, by Spark's names. */
#include <strings.h>

#include "lake/expression/expression_internal.h"

static const struct delta_function_form functions[] = {
    {"year", FN_YEAR, 1, 1},
    {"quarter", FN_QUARTER, 1, 1},
    {"month", FN_MONTH, 1, 1},
    {"day", FN_DAY, 1, 1},
    {"dayofmonth", FN_DAY, 1, 1},
    {"dayofyear", FN_DAY_OF_YEAR, 1, 1},
    {"dayofweek", FN_DAY_OF_WEEK, 1, 1},
    {"weekday", FN_WEEKDAY, 1, 1},
    {"weekofyear", FN_WEEK_OF_YEAR, 1, 1},
    {"hour", FN_HOUR, 1, 1},
    {"minute", FN_MINUTE, 1, 1},
    {"second", FN_SECOND, 1, 1},
    {"date", FN_DATE, 1, 1},
    {"to_date", FN_DATE, 1, 1},
    {"date_trunc", FN_DATE_TRUNC, 2, 2},
    {"trunc", FN_TRUNC, 2, 2},
    {"date_format", FN_DATE_FORMAT, 2, 2},
    {"date_add", FN_DATE_ADD, 2, 2},
    {"date_sub", FN_DATE_SUB, 2, 2},
    {"datediff", FN_DATE_DIFF, 2, 2},
    {"last_day", FN_LAST_DAY, 1, 1},
    {"timestamp_seconds", FN_TIMESTAMP_SECONDS, 1, 1},
    {"timestamp_millis", FN_TIMESTAMP_MILLIS, 1, 1},
    {"timestamp_micros", FN_TIMESTAMP_MICROS, 1, 1},
    {"current_timestamp", FN_NOW, 0, 0},
    {"now", FN_NOW, 0, 0},
    {"current_date", FN_TODAY, 0, 0},
    {"length", FN_LENGTH, 1, 1},
    {"char_length", FN_LENGTH, 1, 1},
    {"character_length", FN_LENGTH, 1, 1},
    {"upper", FN_UPPER, 1, 1},
    {"ucase", FN_UPPER, 1, 1},
    {"lower", FN_LOWER, 1, 1},
    {"lcase", FN_LOWER, 1, 1},
    {"trim", FN_TRIM, 1, 1},
    {"substring", FN_SUBSTRING, 2, 3},
    {"substr", FN_SUBSTRING, 2, 3},
    {"startswith", FN_STARTS_WITH, 2, 2},
    {"endswith", FN_ENDS_WITH, 2, 2},
    {"contains", FN_CONTAINS, 2, 2},
    {"concat", FN_CONCAT, 1, 64},
    {"coalesce", FN_COALESCE, 1, 64},
    {"ifnull", FN_COALESCE, 2, 2},
    {"nvl", FN_COALESCE, 2, 2},
    {"if", FN_IF, 3, 3},
    {"abs", FN_ABS, 1, 1},
};

const struct delta_function_form *delta_function_find(const char *name) {
    for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (strcasecmp(name, functions[i].name) == 0) {
            return &functions[i];
        }
    }
    return NULL;
}
