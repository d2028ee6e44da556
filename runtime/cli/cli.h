#pragma once
/* The command line. One file a command; the table of commands is in command.c. */
#include <stdbool.h>
#include <stddef.h>

#include "core/buffer.h"
#include "core/error.h"
#include "core/export.h"
#include "script/script.h"

enum weir_exit {
    WEIR_EXIT_DONE = 0,
    WEIR_EXIT_USER = 1,        /* the user's files or data are at fault */
    WEIR_EXIT_USAGE = 2,       /* the command line is */
    WEIR_EXIT_ENVIRONMENT = 3, /* the environment is */
    WEIR_EXIT_BUG = 70,        /* we are */
};

#define WEIR_SETTINGS_MAX 64
#define WEIR_POSITIONALS_MAX 256

struct weir_arguments {
    const char *command;
    const char *positionals[WEIR_POSITIONALS_MAX];
    int positional_count;
    struct weir_script_setting settings[WEIR_SETTINGS_MAX]; /* --set key=value */
    size_t setting_count;
    bool json;
    bool until_end;
    bool past_failed;
    bool no_reload;
    bool code;
    bool quiet;
    bool watch; /* of `weir test` */
    bool dry_run;
    bool changes; /* of `weir table cat`, with from and to */
    bool allow_short_retention;
    bool ignore_pending;
    const char *where;       /* of `weir table optimize`, as the next two */
    const char *zorder;      /* --zorder a,b */
    const char *older;       /* --older 30d of `weir table tier`, with to and where */
    const char *rename;      /* --rename old=new of `weir table alter`, as the next two */
    const char *drop;        /* --drop a,b */
    const char *widen;       /* --widen a=int64 */
    const char *layout;      /* --layout direct_lake */
    const char *target_size; /* --target-size 256mb */
    const char *from;        /* of `weir table diff` and `cat --changes`, as the next */
    const char *to;
    const char *keys;   /* --keys a,b */
    const char *retain; /* --retain 168h of `weir table vacuum` */
    const char *epoch;
    const char *version;
    const char *as_of;
    const char *limit;
    const char *columns;  /* --columns a,b of `weir table cat` */
    const char *output;   /* --output tap|junit|… of `weir test` */
    const char *registry; /* --registry URL of `weir schema` */
    const char *mode;     /* --mode full-transitive of `weir schema check` */
    const char *pipeline; /* --pipeline FILE of `weir state` */
    const char *self;     /* absolute path of this binary */
};

struct weir_command {
    const char *name;
    const char *usage;
    const char *summary;
    int (*run)(struct weir_arguments *arguments);
    int positionals; /* at most */
};

int weir_cli_main(int argc, char **argv);

/* The name `word` was probably meant to be, or NULL. */
const char *weir_cli_nearest(const char *word, const char *const *names, size_t count);
/* Prints "weir: <message>" (or a JSON object with --json) and answers the exit code that fits the
 * error's class. */
int weir_cli_fail(const struct weir_arguments *arguments, const struct weir_error *err);
int weir_cli_usage(const struct weir_arguments *arguments, const char *format, ...)
    WEIR_PRINTF(2, 3);
/* --limit, or `otherwise`; false when it is no number. */
bool weir_cli_read_limit(const struct weir_arguments *arguments, long long otherwise,
                         long long *limit);

/* A project is the folder that holds pipelines/, found from `path` upwards; the process moves into
 * it, because relative paths in rules start there. *relative (owned by the caller) is `path` seen
 * from there. */
int weir_cli_enter_project(const char *path, char **relative,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* The project's only pipeline file, when none was named. */
int weir_cli_find_pipeline(char **path, struct weir_error *err) WEIR_MUST_CHECK;

/* A running pipeline is found by its file, whatever state the rules on disk are in (instance.c). */
void weir_cli_register(const char *pipeline, const char *ledger);
bool weir_cli_registered(const char *pipeline, char *ledger, size_t size);
/* Is there a process of this number, as a status file has it? */
bool weir_cli_alive(long long pid);

int weir_cli_run(struct weir_arguments *arguments);
int weir_cli_check(struct weir_arguments *arguments);
int weir_cli_test(struct weir_arguments *arguments);
/* Runs the specs again at every change; returns when they cannot be run (test_watch.c). */
int weir_cli_test_watch(const struct weir_arguments *arguments);
int weir_cli_explain(struct weir_arguments *arguments);
int weir_cli_try(struct weir_arguments *arguments);
int weir_cli_init(struct weir_arguments *arguments);
int weir_cli_dump(struct weir_arguments *arguments);
int weir_cli_replay(struct weir_arguments *arguments);
int weir_cli_table(struct weir_arguments *arguments);
int weir_cli_schema(struct weir_arguments *arguments);
int weir_cli_state(struct weir_arguments *arguments);
int weir_cli_status(struct weir_arguments *arguments);
int weir_cli_rollback(struct weir_arguments *arguments);
int weir_cli_rebuild(struct weir_arguments *arguments);
int weir_cli_why_waiting(struct weir_arguments *arguments);
int weir_cli_version(struct weir_arguments *arguments);
