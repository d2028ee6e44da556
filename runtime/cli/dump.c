/* weir dump: any durable file of ours as JSON lines. */
#include <stdio.h>

#include "cli/cli.h"
#include "commit/ledger.h"

static int print_line(void *context, const char *json) {
    (void)context;
    return puts(json) >= 0 ? WEIR_OK : WEIR_E_IO;
}

int weir_cli_dump(struct weir_arguments *arguments) {
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "dump wants a ledger or snapshot file, or their folder");
    }
    struct weir_error err = {0};
    int rc = weir_ledger_dump(arguments->positionals[0], print_line, NULL, &err);
    return rc == WEIR_OK ? WEIR_EXIT_DONE : weir_cli_fail(arguments, &err);
}
