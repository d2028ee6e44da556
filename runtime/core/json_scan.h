#pragma once
/* Where a JSON value's text ends, for readers that hand the text on as it is. */

#ifdef __cplusplus
extern "C" {
#endif

/* The comma or closing bracket behind the value that begins at `at`, or `end`. What is inside is
 * not judged: who decodes it does that. */
const char *weir_json_value_end(const char *at, const char *end);

#ifdef __cplusplus
}
#endif
