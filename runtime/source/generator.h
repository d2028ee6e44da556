#pragma once
/* The built-in retail generator: till lines, the same for a seed and a number wherever they are
 * made. Options (all optional): seed (1), count (0 = endless; bounded runs need it), rate
 * (events/s, 0 = as fast as taken), start ("2025-03-29T06:00:00Z"), per_second (event time: events
 * a second, 1000), defects (0.01, share of lines with one), late_s (120, how far a late line lies
 * back). */
#include <stdint.h>
#include <stdio.h>

#include "batch/schema.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One reference; NULL without memory. */
struct weir_schema *weir_generator_schema(void);
/* Writes `count` events as JSON lines, as the source gives them with default options. */
int weir_generator_write_jsonl(uint64_t seed, uint64_t count, FILE *out,
                               struct weir_error *err) WEIR_MUST_CHECK;
/* The same schema as .avsc text; static. */
const char *weir_generator_avsc(void);

#ifdef __cplusplus
}
#endif
