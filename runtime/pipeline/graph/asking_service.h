#pragma once
/* The HTTP service an asynchronous lookup asks: requests for a key, or for a batch of them, and
 * what of an answer belongs to which key. Loop thread; the transfers are core/http_many's. */
#include "core/signal.h"
#include "pipeline/graph/answers.h"
#include "pipeline/graph/plan.h"

struct service;
struct weir_http_many_figures;

/* Takes what a key was told: `text` is its JSON, or why there is none (ANSWER_FAILED). */
typedef int (*service_told)(void *context, uint32_t slot, enum answer_status status,
                            const char *text, size_t size, struct weir_error *err);

/* `name` stands in messages; plan, name and `on` (columns by position of the key) are borrowed. */
int service_open(const char *name, const struct weir_plan_lookup *plan, const int32_t *on,
                 struct weir_signal *signal, struct service **out,
                 struct weir_error *err) WEIR_MUST_CHECK;
void service_close(struct service *service); /* NULL is fine */
/* One request for the keys of these rows; their answers are told of these slots. */
int service_ask(struct service *service, const struct weir_batch *batch, const int32_t *rows,
                const uint32_t *slots, int32_t count) WEIR_MUST_CHECK;
/* Tells what came. */
int service_take(struct service *service, service_told told, void *context,
                 struct weir_error *err) WEIR_MUST_CHECK;
bool service_waits(const struct service *service);
void service_figures(const struct service *service, struct weir_http_many_figures *out);

/* An option of the lookup's. */
int64_t service_number(const struct weir_plan_lookup *plan, const char *name, int64_t otherwise);
/* A row's key as a JSON object, names sorted; the caller frees. NULL without memory. */
char *service_key(const struct weir_plan_lookup *plan, const int32_t *on,
                  const struct weir_batch *batch, int32_t row);
/* Whether a JSON text says that there is nothing. */
bool service_is_null(const char *text, size_t size);
