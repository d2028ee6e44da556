#pragma once
/* The parts of `weir table`. `path` is a folder or a URL. */
#include "cli/cli.h"
#include "lake/delta/table.h"

int weir_cli_table_diff(struct weir_arguments *arguments, const char *path);
/* optimize, vacuum, restore: they write to the table. */
int weir_cli_table_maintain(struct weir_arguments *arguments, const char *what, const char *path);
