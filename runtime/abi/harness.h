/* The runtime as specs and `weir try` hold it: real graph, in-memory outputs, a virtual clock.
 * Called through LuaJIT's FFI from lua/stdlib/testing.lua only. These functions run rules, that is
 * they call back into the VM: the Lua functions that call them must not be compiled (jit.off).
 * Texts they return belong to the harness and live until its next call. NULL or a negative number
 * means an error; weir_harness_error says which. */

struct weir_harness;

/* `path`: a pipeline file. settings: "key=value" lines, as --set. */
struct weir_harness *weir_harness_open(const char *path, const char *settings);
void weir_harness_close(struct weir_harness *harness);
/* Of the last failed call, weir_harness_open included. */
const char *weir_harness_error(void);

/* JSON array of the columns a dataset is fed with: [{"name":…,"type":…}…]; NULL when there is no such
 * dataset. For a stream or model `of`, weir_harness_input names the dataset it reads, and
 * weir_harness_time its time field ("" when it declares none). */
const char *weir_harness_columns(struct weir_harness *harness, const char *dataset);
const char *weir_harness_input(struct weir_harness *harness, const char *of);
/* The datasets a rule emits to, one a line; "" of anything else. */
const char *weir_harness_emits(struct weir_harness *harness, const char *of);
const char *weir_harness_time(struct weir_harness *harness, const char *of);

/* Rows for a dataset as JSON lines, decoded by its types; rows of a source that do not decode go to
 * quarantine.<source>. For a stream or model they count as having left it. Returns rows taken. */
int weir_harness_feed(struct weir_harness *harness, const char *dataset, const char *lines,
                      int64_t length);
/* What async_lookup `lookup` of a stream answers for a key: JSON objects, "null" for nothing; with
 * `fails`, the text is why it does not answer. */
int weir_harness_answer(struct weir_harness *harness, const char *stream, const char *lookup,
                        const char *key, const char *answer, int fails);
/* No more rows: every window closes. */
int weir_harness_finish(struct weir_harness *harness);
/* Moves the recorded clock by so many microseconds: idle partitions, now(). */
int weir_harness_advance(struct weir_harness *harness, int64_t us);
/* As if a row of this event time had come: every watermark follows. */
int weir_harness_watermark(struct weir_harness *harness, int64_t time_us);
/* What left the dataset so far (name "quarantine.x" for rejects, a late dataset's name for late
 * rows): JSON lines in order. "" when nothing did. */
const char *weir_harness_rows(struct weir_harness *harness, const char *dataset);
/* Forgets what left so far. */
void weir_harness_clear(struct weir_harness *harness);
/* {"in":…,"out":…,"rejected":{…},"late":…,…} as in the summary of a run. */
const char *weir_harness_counters(struct weir_harness *harness, const char *dataset);
