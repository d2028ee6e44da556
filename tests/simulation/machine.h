#pragma once
/* A machine whose power can go, a small pipeline on it (one of two), and tables compared row for
 * row: what the tests of this folder share. The ledger's and the tables' disks stop at one common
 * instant and lose what the seed says of what was not synced. What is started on the rest and runs
 * to the end must leave the tables of an undisturbed run, every bit of every double. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/file_sim.h"
#include "lake/store/store.h"

uint64_t draw(uint64_t *state); /* splitmix64 */

struct machine {
    int program;
    struct weir_files_sim *files;
    struct weir_store *store;
    struct weir_store *between; /* what the pipeline gets instead; NULL: the store itself */
    atomic_int_fast64_t left;   /* changing operations until the power goes; negative: never */
    atomic_int_fast64_t done;
    atomic_bool off;
    /* Before each changing operation, NULL: nothing. For disks that take their time. */
    void (*before)(struct machine *m);
    uint64_t slow; /* state of `before` */
};

/* What runs on it: windows, tables by key and counts of two sources, or joins (joined.h). */
enum program { PROGRAM_WINDOWS, PROGRAM_JOINS, PROGRAMS };

void machine_init(struct machine *m, enum program program, uint64_t seed);
void machine_fini(struct machine *m);
/* The power goes, or only the process is killed, and what it wrote is lost by the next power loss
 * unless somebody syncs it. */
void machine_lose_power(struct machine *m, uint64_t *state);
/* One process: recovers, runs to the end of the input or until something fails. */
int machine_live(struct machine *m, struct weir_error *err);

/* The project on the real disk, as the working directory, and an undisturbed run of it. */
int project_set_up(void **state);
int project_tear_down(void **state);
int64_t undisturbed_operations(const struct machine *m);

/* What failures name: "WEIR_POWER_SEED=7". */
extern char current_run[128];
/* Fails, saying everything of every table that differs. */
void assert_undisturbed_tables(const struct machine *m, const char *when);
/* Runs to the end on what is left, and compares. */
void machine_to_the_end(struct machine *m);
/* The undisturbed tables are these, and hold rows; those of joins are what their model says. */
void assert_every_kind_of_table(void);
