/* The sinks there are. */
#include <string.h>

#include "lake/store/open.h"
#include "sink/sink.h"

static const struct weir_sink_ops *const registry[] = {
    &weir_sink_delta,
    &weir_sink_kafka,
    &weir_sink_webhook,
};

const struct weir_sink_ops *weir_sink_find(const char *kind) {
    for (size_t i = 0; i < sizeof(registry) / sizeof(registry[0]); i++) {
        if (strcmp(registry[i]->kind, kind) == 0) {
            return registry[i];
        }
    }
    return NULL;
}

void weir_sink_declare(void) {
    enum { KINDS = sizeof(registry) / sizeof(registry[0]) };
    static struct weir_connector connectors[KINDS];
    size_t count = 0;
    for (size_t i = 0; i < KINDS; i++) {
        if (registry[i]->options != NULL) {
            connectors[count++] = (struct weir_connector){registry[i]->kind, registry[i]->options};
        }
    }
    weir_sink_connectors_set(connectors, count);
    weir_storage_options_set(weir_store_options);
}
