#pragma once
/* A store in front of another that sometimes lies about what it did, as networks and services do:
 * a put took place and its answer was lost; another writer of the table came first; an operation
 * fails outright. Within the contract of store.h. */
#include <stdbool.h>
#include <stdint.h>

#include "lake/store/store.h"

struct unreliable {
    struct weir_store head; /* give this one to the pipeline */
    struct weir_store *store;
    uint64_t random;
    uint32_t lies;  /* of 1000 puts: answers lost, names taken by somebody else */
    uint32_t fails; /* of 1000 operations: they fail and do nothing */
    uint64_t lied;  /* so often did it */
    uint64_t failed;
};

/* `store` is borrowed. Both rates are 0 at first. */
void unreliable_init(struct unreliable *unreliable, struct weir_store *store, uint64_t seed);
