/* The table of commands, their options, and how errors become exit codes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lake/delta/actions.h"
#include "sink/sink.h"

static const struct weir_command commands[] = {
    {"run",
     "run PIPELINE [--only NAME]… [--until-end] [--past-failed] [--set k=v]… [--no-reload] "
     "[--quiet]",
     "run a pipeline; --until-end stops when bounded sources end, --only runs a dataset and what "
     "it reads",
     weir_cli_run, 1},
    {"check", "check [FILE…] [--set k=v]…",
     "parse, types, unknown columns, lints; with a caret and a suggestion", weir_cli_check,
     WEIR_POSITIONALS_MAX},
    {"test", "test [SPEC…] [--watch] [--output tap|junit|utfTerminal]",
     "the busted specs, with the runtime loaded", weir_cli_test, WEIR_POSITIONALS_MAX},
    {"explain", "explain [NAME] [--code] [--set k=v]…", "plan, guarantees, generated loops",
     weir_cli_explain, 1},
    {"try", "try FILE < events.jsonl",
     "one rule file on sample events: what passes, what is rejected and why", weir_cli_try, 1},
    {"init", "init DIR", "a project that runs, with one rule and its spec", weir_cli_init, 1},
    {"dump", "dump FILE-OR-FOLDER", "any durable file as JSON lines", weir_cli_dump, 1},
    {"replay", "replay PIPELINE --epoch N [--only NAME]… [--set k=v]…",
     "run a recorded epoch again and say where it differs", weir_cli_replay, 1},
    {"table",
     "table ls|show|history|cat [NAME-OR-PATH] [--version N | --as-of T] [--limit N] "
     "[--columns A,B]\n"
     "  weir table cat NAME-OR-PATH --changes --from V [--to V] [--limit N]\n"
     "  weir table diff NAME-OR-PATH --from V [--to V] [--keys A,B] [--limit N]\n"
     "  weir table optimize NAME-OR-PATH [--where P] [--zorder A,B | --layout direct_lake]\n"
     "                     [--target-size 256mb]\n"
     "  weir table vacuum NAME-OR-PATH [--dry-run] [--retain 168h] [--allow-short-retention] "
     "[--ignore-pending]\n"
     "  weir table restore NAME-OR-PATH --version N | --as-of T [--dry-run]\n"
     "  weir table replace NAME-OR-PATH --where P --from FOLDER [--dry-run]\n"
     "  weir table tier NAME-OR-PATH --to FOLDER-OR-URL --older 30d [--where P]\n"
     "  weir table alter NAME-OR-PATH [--rename A=B] [--drop C] [--widen D=int64]",
     "look at Delta tables, and keep them in order", weir_cli_table, 2},
    {"schema",
     "schema ls [SUBJECT] [--registry URL]\n"
     "  weir schema diff A B [--registry URL]: a file.avsc, a subject, or subject:version each\n"
     "  weir schema check [PIPELINE] [--set k=v]…\n"
     "  weir schema check FILE.avsc SUBJECT-OR-FILE [--mode full-transitive] [--registry URL]",
     "schemas of files and of a registry, before a deploy", weir_cli_schema, 3},
    {"state",
     "state ls [DATASET] [--epoch N] [--pipeline FILE] [--only NAME]… [--set k=v]…\n"
     "  weir state get DATASET [KEY…] [--epoch N] [--limit N]\n"
     "  weir state diff EPOCH EPOCH [DATASET] [--limit N]\n"
     "  weir state export [DATASET] [--epoch N] [--limit N]",
     "what a pipeline, running or stopped, keeps: typed, by key", weir_cli_state,
     WEIR_POSITIONALS_MAX},
    {"status", "status [PIPELINE] [--only NAME]… [--set k=v]…",
     "what a running instance says of itself", weir_cli_status, 1},
    {"rollback", "rollback [PIPELINE] [--set k=v]…",
     "a running instance goes back to the rule set before the last reload", weir_cli_rollback, 1},
    {"rebuild", "rebuild DATASET [--pipeline FILE] [--set k=v]… [--quiet]",
     "a dataset's rows and state made anew from bronze, beside a running instance, which takes\n"
     "      them over",
     weir_cli_rebuild, 1},
    {"why-waiting", "why-waiting [PIPELINE] [--only NAME]… [--set k=v]…",
     "which partition holds each dataset's watermark", weir_cli_why_waiting, 1},
    {"version", "version", "the version of this binary", weir_cli_version, 0},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static const char *const not_built[] = {
    "reload", "promote", "top",   "plan", "quarantine", "backfill",
    "debug",  "sample",  "query", "docs", "meta",
};

/* What options do, told by the help of each command that takes them. */
static const char *const options[][2] = {
    {"--until-end", "stop when bounded sources end, and close every window"},
    {"--past-failed", "go on past rows that stop the pipeline: they are set aside"},
    {"--set k=v", "another value for this run: commit.every=100ms, storage.root=other"},
    {"--only NAME", "this dataset and what it reads; nothing else is written"},
    {"--no-reload", "do not watch the rule files"},
    {"--quiet", "no line of progress"},
    {"--watch", "once more whenever a file changes"},
    {"--output", "how results are shown"},
    {"--code", "the loops generated from the declarations"},
    {"--epoch N", "as of this epoch"},
    {"--version N", "as of this version of the table"},
    {"--as-of T", "as of this time, 2026-01-05T10:00:00Z"},
    {"--limit N", "at most so many rows"},
    {"--columns A,B", "these columns alone"},
    {"--changes", "rows of the change data feed"},
    {"--from V", "after this version"},
    {"--keys A,B", "the columns that say which row is which"},
    {"--where P", "partitions this is true of, as day = '2026-01-05'"},
    {"--dry-run", "say what would be done, and do nothing"},
    {"--retain", "how long what old versions need is kept"},
    {"--allow-short-retention", "a retention readers are not safe under"},
    {"--ignore-pending", "also where a pipeline has files that are not committed"},
    {"--registry URL", "the schema registry; else what the pipeline names"},
    {"--mode", "the compatibility asked for"},
    {"--pipeline FILE", "which pipeline, where the project has several"},
};

static void print_command(FILE *out, const struct weir_command *command) {
    fprintf(out, "  weir %s\n      %s\n", command->usage, command->summary);
}

/* Of one command, with its options, or of all. */
static void print_help(FILE *out, const char *name) {
    const struct weir_command *one = NULL;
    for (int i = 0; name != NULL && i < COMMAND_COUNT; i++) {
        one = strcmp(commands[i].name, name) == 0 ? &commands[i] : one;
    }
    if (one != NULL) {
        print_command(out, one);
        fputc('\n', out);
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
            if (strstr(one->usage, options[i][0]) != NULL) {
                fprintf(out, "  %-24s%s\n", options[i][0], options[i][1]);
            }
        }
        fprintf(out, "  %-24s%s\n", "--json", "for programs");
        return;
    }
    fputs("weir: a Lua-scriptable stream processing runtime\n\n", out);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        print_command(out, &commands[i]);
    }
    fputs(
        "\nEvery command takes --json, and --help tells of it alone. Exit codes: 0 done, 1 your "
        "files or\ndata are at fault, 2 usage, 3 the environment is at fault, 70 a bug of ours.\n",
        out);
}

static int exit_code(int code) {
    if (code == WEIR_E_USAGE) {
        return WEIR_EXIT_USAGE;
    }
    if (code == WEIR_E_BUG || code == WEIR_E_FAULT) {
        return WEIR_EXIT_BUG;
    }
    switch (code) {
    case WEIR_E_DATA:
    case WEIR_E_SCRIPT:
    case WEIR_E_BUDGET:
    case WEIR_E_CONFIG:
    case WEIR_E_SYNTAX:
    case WEIR_E_SCHEMA:
    case WEIR_E_UNSUPPORTED:
    case WEIR_E_STATE:
        return WEIR_EXIT_USER;
    default:
        return WEIR_EXIT_ENVIRONMENT;
    }
}

static void print_json(const struct weir_arguments *arguments, const struct weir_error *err) {
    if (arguments->json) {
        struct weir_buffer text;
        weir_buffer_init(&text, 1 << 16);
        if (weir_delta_json_string(&text, err->message, strlen(err->message)) == WEIR_OK) {
            printf("{\"error\":%.*s,\"code\":\"%s\"}\n", (int)text.size, (const char *)text.data,
                   weir_error_name(err->code));
        }
        weir_buffer_fini(&text);
    }
}

int weir_cli_fail(const struct weir_arguments *arguments, const struct weir_error *err) {
    print_json(arguments, err);
    fprintf(stderr, "weir: %s\n", err->message);
    return exit_code(err->code);
}

int weir_cli_usage(const struct weir_arguments *arguments, const char *format, ...) {
    struct weir_error err = {.code = WEIR_E_USAGE};
    va_list args;
    va_start(args, format);
    vsnprintf(err.message, sizeof(err.message), format, args);
    va_end(args);
    print_json(arguments, &err);
    fprintf(stderr, "weir: %s", err.message);
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (arguments->command != NULL && strcmp(commands[i].name, arguments->command) == 0) {
            fprintf(stderr, "\nusage: weir %s", commands[i].usage);
        }
    }
    fputc('\n', stderr);
    return WEIR_EXIT_USAGE;
}

bool weir_cli_read_limit(const struct weir_arguments *arguments, long long otherwise,
                         long long *limit) {
    char *end;
    *limit = otherwise;
    if (arguments->limit == NULL) {
        return true;
    }
    *limit = strtoll(arguments->limit, &end, 10);
    return *end == '\0' && *limit >= 0;
}

enum { WORD_BYTES_MAX = 32 };

/* Edits between two short words, a swap of neighbours counting one. */
static int distance(const char *a, const char *b) {
    int rows[3][WORD_BYTES_MAX + 1];
    int length = (int)strlen(b);
    for (int j = 0; j <= length; j++) {
        rows[0][j] = j;
    }
    for (int i = 1; a[i - 1] != '\0'; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3];
        row[0] = i;
        for (int j = 1; j <= length; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                int swapped = rows[(i + 1) % 3][j - 2] + 1;
                best = swapped < best ? swapped : best;
            }
            row[j] = best;
        }
    }
    return rows[strlen(a) % 3][length];
}

/* The name `word` was probably meant to be, or NULL. */
const char *weir_cli_nearest(const char *word, const char *const *names, size_t count) {
    const char *best = NULL;
    int best_distance = 3;
    for (size_t i = 0; i < count && strlen(word) <= WORD_BYTES_MAX; i++) {
        int d = distance(word, names[i]);
        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

/* An option with a value: "--name value" or "--name=value". */
static const char *option_value(int argc, char **argv, int *i, const char *name) {
    size_t length = strlen(name);
    if (strncmp(argv[*i], name, length) != 0) {
        return NULL;
    }
    if (argv[*i][length] == '=') {
        return argv[*i] + length + 1;
    }
    if (argv[*i][length] != '\0') {
        return NULL;
    }
    return *i + 1 < argc ? argv[++*i] : "";
}

/* Does the command's usage name this option? Unknown commands are told later. */
static bool takes(const struct weir_arguments *a, const char *option) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, a->command) == 0) {
            return strcmp(option, "--json") == 0 || strstr(commands[i].usage, option) != NULL;
        }
    }
    return true;
}

static int parse_option(struct weir_arguments *a, int argc, char **argv, int *i) {
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        {"--json", offsetof(struct weir_arguments, json)},
        {"--until-end", offsetof(struct weir_arguments, until_end)},
        {"--past-failed", offsetof(struct weir_arguments, past_failed)},
        {"--no-reload", offsetof(struct weir_arguments, no_reload)},
        {"--code", offsetof(struct weir_arguments, code)},
        {"--quiet", offsetof(struct weir_arguments, quiet)},
        {"--watch", offsetof(struct weir_arguments, watch)},
        {"--dry-run", offsetof(struct weir_arguments, dry_run)},
        {"--changes", offsetof(struct weir_arguments, changes)},
        {"--allow-short-retention", offsetof(struct weir_arguments, allow_short_retention)},
        {"--ignore-pending", offsetof(struct weir_arguments, ignore_pending)},
    };
    static const struct {
        const char *name;
        size_t offset;
    } values[] = {
        {"--epoch", offsetof(struct weir_arguments, epoch)},
        {"--version", offsetof(struct weir_arguments, version)},
        {"--as-of", offsetof(struct weir_arguments, as_of)},
        {"--limit", offsetof(struct weir_arguments, limit)},
        {"--columns", offsetof(struct weir_arguments, columns)},
        {"--output", offsetof(struct weir_arguments, output)},
        {"--where", offsetof(struct weir_arguments, where)},
        {"--zorder", offsetof(struct weir_arguments, zorder)},
        {"--older", offsetof(struct weir_arguments, older)},
        {"--rename", offsetof(struct weir_arguments, rename)},
        {"--drop", offsetof(struct weir_arguments, drop)},
        {"--widen", offsetof(struct weir_arguments, widen)},
        {"--layout", offsetof(struct weir_arguments, layout)},
        {"--target-size", offsetof(struct weir_arguments, target_size)},
        {"--from", offsetof(struct weir_arguments, from)},
        {"--to", offsetof(struct weir_arguments, to)},
        {"--keys", offsetof(struct weir_arguments, keys)},
        {"--retain", offsetof(struct weir_arguments, retain)},
        {"--registry", offsetof(struct weir_arguments, registry)},
        {"--mode", offsetof(struct weir_arguments, mode)},
        {"--pipeline", offsetof(struct weir_arguments, pipeline)},
    };
    for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]); f++) {
        if (strcmp(argv[*i], flags[f].name) == 0) {
            if (!takes(a, flags[f].name)) {
                return weir_cli_usage(a, "%s takes no %s", a->command, flags[f].name);
            }
            *(bool *)((char *)a + flags[f].offset) = true;
            return WEIR_EXIT_DONE;
        }
    }
    for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
        const char *value = option_value(argc, argv, i, values[v].name);
        if (value != NULL) {
            if (!takes(a, values[v].name)) {
                return weir_cli_usage(a, "%s takes no %s", a->command, values[v].name);
            }
            if (*value == '\0') {
                return weir_cli_usage(a, "%s needs a value", values[v].name);
            }
            *(const char **)((char *)a + values[v].offset) = value;
            return WEIR_EXIT_DONE;
        }
    }
    const char *setting = option_value(argc, argv, i, "--set");
    if (setting != NULL) {
        if (!takes(a, "--set")) {
            return weir_cli_usage(a, "%s takes no --set", a->command);
        }
        const char *equals = strchr(setting, '=');
        if (equals == NULL || equals == setting || a->setting_count == WEIR_SETTINGS_MAX) {
            return weir_cli_usage(a, "--set wants key=value, for example commit.every=100ms");
        }
        char *key = strndup(setting, (size_t)(equals - setting));
        if (key == NULL) {
            return WEIR_EXIT_ENVIRONMENT;
        }
        a->settings[a->setting_count++] = (struct weir_script_setting){key, equals + 1};
        return WEIR_EXIT_DONE;
    }
    const char *only = option_value(argc, argv, i, "--only");
    if (only != NULL) {
        if (!takes(a, "--only")) {
            return weir_cli_usage(a, "%s takes no --only", a->command);
        }
        char *key = strdup("only");
        if (*only == '\0' || key == NULL || a->setting_count == WEIR_SETTINGS_MAX) {
            free(key);
            return weir_cli_usage(a, "--only wants a dataset, for example --only silver.sale");
        }
        a->settings[a->setting_count++] = (struct weir_script_setting){key, only};
        return WEIR_EXIT_DONE;
    }
    const char *names[2 + sizeof(flags) / sizeof(flags[0]) + sizeof(values) / sizeof(values[0])] = {
        "--set", "--only"};
    size_t count = 2;
    for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]); f++) {
        names[count++] = flags[f].name;
    }
    for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
        names[count++] = values[v].name;
    }
    const char *meant = weir_cli_nearest(argv[*i], names, count);
    return weir_cli_usage(a, "there is no option %s%s%s%s", argv[*i],
                          meant != NULL ? "; did you mean `" : "", meant != NULL ? meant : "",
                          meant != NULL ? "`?" : "");
}

static int dispatch(struct weir_arguments *a) {
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, a->command) == 0) {
            if (a->positional_count > commands[i].positionals) {
                return weir_cli_usage(a, "%s does not take '%s'", a->command,
                                      a->positionals[commands[i].positionals]);
            }
            return commands[i].run(a);
        }
    }
    for (size_t i = 0; i < sizeof(not_built) / sizeof(not_built[0]); i++) {
        if (strcmp(not_built[i], a->command) == 0) {
            fprintf(stderr, "weir: '%s' is not built yet\n", a->command);
            return WEIR_EXIT_USER;
        }
    }
    const char *names[COMMAND_COUNT];
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
    }
    const char *meant = weir_cli_nearest(a->command, names, COMMAND_COUNT);
    fprintf(stderr, "weir: there is no command '%s'; %s%s%s`weir help` lists them\n", a->command,
            meant != NULL ? "did you mean `" : "", meant != NULL ? meant : "",
            meant != NULL ? "`? " : "");
    return WEIR_EXIT_USAGE;
}

int weir_cli_main(int argc, char **argv) {
    weir_sink_declare();
    struct weir_arguments a = {0};
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (length > 0) {
        self[length] = '\0';
        a.self = self;
    }
    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_help(argc < 2 ? stderr : stdout, argc > 2 ? argv[2] : NULL);
        return argc < 2 ? WEIR_EXIT_USAGE : WEIR_EXIT_DONE;
    }
    a.command = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        a.json = a.json || strcmp(argv[i], "--json") == 0; /* what is wrong before it is JSON too */
    }
    int code = WEIR_EXIT_DONE;
    bool only_positionals = false;
    for (int i = 2; code == WEIR_EXIT_DONE && i < argc; i++) {
        if (!only_positionals && strcmp(argv[i], "--") == 0) {
            only_positionals = true;
        } else if (!only_positionals &&
                   (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            print_help(stdout, a.command);
            return WEIR_EXIT_DONE;
        } else if (!only_positionals && argv[i][0] == '-' && argv[i][1] != '\0') {
            code = parse_option(&a, argc, argv, &i);
        } else if (a.positional_count < WEIR_POSITIONALS_MAX) {
            a.positionals[a.positional_count++] = argv[i];
        }
    }
    if (code == WEIR_EXIT_DONE) {
        code = dispatch(&a);
    }
    for (size_t i = 0; i < a.setting_count; i++) {
        free((void *)(uintptr_t)a.settings[i].key);
    }
    return code;
}

int weir_cli_version(struct weir_arguments *arguments) {
    if (arguments->json) {
        printf("{\"version\":\"%s\"}\n", WEIR_VERSION);
    } else {
        printf("weir %s\n", WEIR_VERSION);
    }
    return WEIR_EXIT_DONE;
}
