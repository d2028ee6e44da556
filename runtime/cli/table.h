#pragma once
/* The parts of `weir table`. */
#include "cli/cli.h"
#include "lake/delta/commit.h"
#include "lake/delta/table.h"

struct json_t;

/* A folder or a URL, and the store's options where a project's pipeline names them. */
struct weir_cli_place {
    char path[4096];
    struct json_t *options; /* or NULL: the environment says them all */
    const char *dataset;    /* the name the path was made of, or NULL; borrowed */
};

int weir_cli_place_open(const struct weir_cli_place *place, bool writes, struct weir_store **out,
                        struct weir_error *err) WEIR_MUST_CHECK;
int weir_cli_table_diff(struct weir_arguments *arguments, const struct weir_cli_place *place);
int weir_cli_table_alter(struct weir_arguments *arguments, struct weir_delta_table *table);
/* optimize, vacuum, restore, replace, alter: they write to the table. */
int weir_cli_table_maintain(struct weir_arguments *arguments, const char *what,
                            const struct weir_cli_place *place);
