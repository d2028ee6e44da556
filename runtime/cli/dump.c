/* weir dump: any durable file of ours as JSON lines. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "commit/ledger.h"

static int print_line(void *context, const char *json) {
    bool *damaged = context;
    if (strstr(json, "\"error\"") != NULL) {
        json_t *line = json_loads(json, 0, NULL);
        *damaged |= json_object_get(line, "error") != NULL;
        json_decref(line);
    }
    return puts(json) >= 0 ? WEIR_OK : WEIR_E_IO;
}

int weir_cli_dump(struct weir_arguments *arguments) {
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "dump wants a ledger or snapshot file, or their folder");
    }
    struct weir_error err = {0};
    bool damaged = false;
    int rc = weir_ledger_dump(arguments->positionals[0], print_line, &damaged, &err);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    return damaged ? WEIR_EXIT_USER : WEIR_EXIT_DONE;
}
