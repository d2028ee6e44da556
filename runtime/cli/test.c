/* weir test: busted's own runner inside our VM, with weir.testing at hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "pipeline/harness.h"

/* busted ends by os.exit; here that unwinds instead, so that the VM is closed in order. */
static const char runner_chunk[] =
    "local code = 0\n"
    "local sentinel = {}\n"
    "os.exit = function(c) code = (c == true or c == nil) and 0 or c == false and 1 or c\n"
    "  error(sentinel, 0) end\n"
    "local found, runner = pcall(require, 'busted.runner')\n"
    "if not found then return 'missing: ' .. tostring(runner) end\n"
    "local ok, why = pcall(function() runner({ standalone = false }) end)\n"
    "io.stdout:flush()\n"
    "if not ok and why ~= sentinel then return 'failed: ' .. tostring(why) end\n"
    "return tostring(code)\n";

static int quote(struct weir_buffer *out, const char *text) {
    int rc = weir_buffer_append_text(out, ", \"");
    for (const char *c = text; rc == WEIR_OK && *c != '\0'; c++) {
        rc = weir_buffer_printf(out, "\\%03d", (unsigned char)*c);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "\"") : rc;
}

static int build_chunk(const struct weir_arguments *arguments, struct weir_buffer *chunk) {
    /* one line: positions in busted's own messages do not matter here */
    int rc = weir_buffer_append_text(chunk, "arg = { [0] = 'weir test'");
    char output[128];
    snprintf(output, sizeof(output), "--output=%.100s",
             arguments->output != NULL
                 ? strcmp(arguments->output, "tap") == 0 ? "TAP" : arguments->output
             : arguments->json       ? "json"
             : isatty(STDOUT_FILENO) ? "utfTerminal"
                                     : "plainTerminal");
    const char *fixed[] = {output, "--pattern=_spec", "--lpath=./?.lua"};
    for (size_t i = 0; rc == WEIR_OK && i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        rc = quote(chunk, fixed[i]);
    }
    for (int i = 0; rc == WEIR_OK && i < arguments->positional_count; i++) {
        rc = quote(chunk, arguments->positionals[i]);
    }
    if (rc == WEIR_OK && arguments->positional_count == 0) {
        rc = quote(chunk, "spec");
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(chunk, " }\n");
    }
    return rc == WEIR_OK ? weir_buffer_append_text(chunk, runner_chunk) : rc;
}

int weir_cli_test(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    struct stat info;
    if (arguments->positional_count == 0 && stat("spec", &info) != 0) {
        return weir_cli_usage(arguments, "there is no spec/ here; name the specs to run");
    }
    if (arguments->watch) {
        return weir_cli_test_watch(arguments);
    }
    struct weir_script *script;
    struct weir_script_options options = {
        .host_libraries = true,
        .load_budget_ns = INT64_C(600000000000),
    };
    if (weir_script_create(&options, &script, &err) != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    weir_harness_use(script);
    struct weir_buffer chunk;
    struct weir_buffer answer;
    weir_buffer_init(&chunk, 1 << 20);
    weir_buffer_init(&answer, 1 << 20);
    int rc = build_chunk(arguments, &chunk);
    if (rc == WEIR_OK) {
        rc = weir_script_run(script, (const char *)chunk.data, chunk.size, "=weir test", &answer,
                             &err);
    }
    int code = WEIR_EXIT_DONE;
    const char *text = rc == WEIR_OK ? weir_buffer_text(&answer) : NULL;
    if (text == NULL) {
        code = weir_cli_fail(arguments, &err);
    } else if (strncmp(text, "missing", 7) == 0) {
        fprintf(stderr, "weir: busted is not installed (apt install lua-busted); %s\n", text);
        code = WEIR_EXIT_ENVIRONMENT;
    } else if (strncmp(text, "failed", 6) == 0) {
        fprintf(stderr, "weir: %s\n", text);
        code = WEIR_EXIT_USER;
    } else {
        code = strtol(text, NULL, 10) == 0 ? WEIR_EXIT_DONE : WEIR_EXIT_USER;
    }
    weir_buffer_fini(&chunk);
    weir_buffer_fini(&answer);
    weir_harness_use(NULL);
    weir_script_destroy(script);
    return code;
}
