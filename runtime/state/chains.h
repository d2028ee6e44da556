#pragma once
/* Rows under keys that come and go one by one: those of a key form a chain in order of their time
 * (equal times: in order of arrival). What a temporal join has of its versions, and a regular join
 * of both its sides.
 *
 * Each row is a slot of a table (table.h), so its images are those of rows that changed, whatever
 * the length of the chain; the chains themselves are rebuilt from the slots. A row stays where it
 * is until it is removed, or goes to disk: then a chain is what of it is in memory, and who has to
 * have all of it wants it first. One thread (the loop). */
#include "state/table.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_link { /* a row; 0 is no number */
    int64_t time_us;
    uint8_t *bytes;
    uint32_t size;
    uint32_t count;  /* the owner's: touch the row before it changes */
    uint32_t number; /* the row's own */
    uint32_t older;
    uint32_t newer;
    uint32_t ended; /* the owner's, likewise: 0 or 1 */
};

struct weir_chain { /* the ends of one */
    struct weir_link *oldest;
    struct weir_link *newest;
};

/* Keys of images begin with eight bytes of the chains' own. */
enum { WEIR_CHAIN_KEY_FROM = 8 };
/* Reads the head of an image's value: the row follows it. Bytes of the head; 0: it is none. */
size_t weir_chains_read(const uint8_t *value, size_t size, struct weir_link *out);

struct weir_chains;

struct weir_chains_config {
    const char *declaration; /* copied */
    const char *cell;        /* copied */
    uint64_t shape;
    uint64_t seed;    /* of the caller's hashes; 0: a random one */
    size_t max_bytes; /* 0: none */
    const char *option;
    const char *disk; /* folder for rows that have not been needed lately: max_bytes is a budget
                         then; or NULL */
    struct weir_signal *disk_signal;
};

struct weir_chains *weir_chains_create(const struct weir_chains_config *config,
                                       struct weir_error *err);
void weir_chains_destroy(struct weir_chains *chains);

/* For weir_keys_hash. */
uint64_t weir_chains_seed(const struct weir_chains *chains);
/* Two-stage prefetch for batches of lookups: the index first, some rows later what it leads to. */
void weir_chains_prefetch(const struct weir_chains *chains, uint64_t hash);
void weir_chains_prefetch_row(const struct weir_chains *chains, uint64_t hash);
/* The key's chain; both ends NULL: there is none. */
struct weir_chain weir_chains_find(const struct weir_chains *chains, uint64_t hash, const void *key,
                                   size_t key_bytes);
/* NULL where there is none. */
struct weir_link *weir_chains_link(const struct weir_chains *chains, uint32_t number);

/* Copies key and row; no row is moved by it. NULL: WEIR_E_LIMIT at the cap, WEIR_E_NOMEM; nothing
 * happened. */
struct weir_link *weir_chains_add(struct weir_chains *chains, uint64_t hash, const void *key,
                                  size_t key_bytes, int64_t time_us, const void *row,
                                  size_t row_bytes, struct weir_error *err);
/* The same of the key of another row, with no bytes. */
struct weir_link *weir_chains_add_beside(struct weir_chains *chains, const struct weir_link *other,
                                         int64_t time_us, struct weir_error *err);
/* Other bytes in a row's place. WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_chains_set(struct weir_chains *chains, struct weir_link *link, const void *row,
                    size_t row_bytes, struct weir_error *err) WEIR_MUST_CHECK;
int weir_chains_touch(struct weir_chains *chains, struct weir_link *link,
                      struct weir_error *err) WEIR_MUST_CHECK;
int weir_chains_remove(struct weir_chains *chains, struct weir_link *link,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The same without an image: whoever is given the row again knows by its time what it is worth, as
 * of rows that are forgotten on disk. One that an image waits for stays for now: so records do not
 * hang on when rows are expired. */
int weir_chains_expire(struct weir_chains *chains, struct weir_link *link,
                       struct weir_error *err) WEIR_MUST_CHECK;

/* Rows on disk (table.h has the contract of each). Wants what of a key's chain is there. */
bool weir_chains_use_disk(const struct weir_chains *chains);
int weir_chains_want(struct weir_chains *chains, uint64_t hash, const void *key, size_t key_bytes,
                     struct weir_error *err) WEIR_MUST_CHECK;
int weir_chains_load(struct weir_chains *chains, bool *waits,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* *rows: how many came in. */
int weir_chains_bring(struct weir_chains *chains, bool *done, size_t *rows,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Between batches: no row is good after. */
int weir_chains_make_room(struct weir_chains *chains, bool *crowded,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Rows on disk older than that are forgotten. */
void weir_chains_forget(struct weir_chains *chains, int64_t before_us);
struct weir_table_disk_figures weir_chains_disk_figures(const struct weir_chains *chains);
/* The row was needed. */
void weir_chains_warm(const struct weir_chains *chains, const struct weir_link *link);

/* Numbers run 1..weir_chains_numbers: for sweeps over all rows. */
uint32_t weir_chains_numbers(const struct weir_chains *chains);
size_t weir_chains_rows(const struct weir_chains *chains);
/* Typical bytes of a row beside its key and its own. */
size_t weir_chains_estimate(void);
struct weir_cell *weir_chains_cell(struct weir_chains *chains);
/* After all images were applied, before the first row. */
int weir_chains_restore(struct weir_chains *chains, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
