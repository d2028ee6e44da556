#pragma once
/* The parts of `weir table`. `path` is a folder or a URL. */
#include "cli/cli.h"
#include "lake/delta/commit.h"
#include "lake/delta/table.h"

int weir_cli_table_diff(struct weir_arguments *arguments, const char *path);
int weir_cli_table_alter(struct weir_arguments *arguments, struct weir_delta_table *table);
/* optimize, vacuum, restore, replace, alter: they write to the table. */
int weir_cli_table_maintain(struct weir_arguments *arguments, const char *what, const char *path);
