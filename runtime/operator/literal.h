#pragma once
/* Literals as analysts wrote them, read at a column's exact type. Nothing is rounded: what the type
 * cannot hold is an error that names literal, column and what would fit. */
#include "batch/builder.h"
#include "batch/schema.h"
#include "operator/wide.h"

/* A value of a fixed type: ints, bool, dates and times in `integer`, floats in `number`, decimals
 * unscaled at the column's scale in `decimal`. */
struct weir_literal {
    int64_t integer;
    double number;
    weir_int128 decimal;
    const char *bytes; /* string, binary: borrowed from the text */
    int32_t length;
};

int weir_literal_parse(const struct weir_field *field, const char *text,
                       struct weir_literal *literal, struct weir_error *err) WEIR_MUST_CHECK;
/* Appends it to a column of the field's type. */
int weir_literal_put(const struct weir_field *field, const struct weir_literal *literal,
                     struct weir_column_builder *to) WEIR_MUST_CHECK;
