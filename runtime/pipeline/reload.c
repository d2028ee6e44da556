/* Hot reload. A watcher thread sees that files of the rule set's closure changed, and has a child
 * process check them and run their specs (CPU and memory limited). Only then does the loop load
 * them, beside the running set; at the next seal pointers are swapped, so each row is processed by
 * exactly one version, and the record after it carries the new hash. Any failure leaves the old set
 * running and says why. Rollback is the same swap, backwards. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/stamp.h"
#include "core/thread.h"
#include "pipeline/evolve.h"

enum {
    POLL_MS = 100,
    SETTLE_MS = 20,
    CHILD_CPU_SECONDS = 60,
    CHILD_MEMORY_MB = 2048,
    FILES_MAX = 4096,
    OUTPUT_MAX = 8192,
    SETTINGS_MAX = 64,
    TRIAL_NS = 500000,  /* a turn */
    COLLECT_CYCLES = 2, /* the second takes what finalizers let go */
};

/* Sanitizers map terabytes of shadow: address space says nothing under them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CHILD_MEMORY_LIMITED = 0 };
#else
enum { CHILD_MEMORY_LIMITED = 1 };
#endif

struct version { /* one loaded rule set */
    struct weir_rule_set *rule_set;
    struct weir_plan *plan;
    struct weir_graph *graph; /* NULL for a version only kept for rollback */
};

struct reload {
    struct weir_pipeline *p;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t first; /* the files as they were loaded; 0: some have changed since */
    /* under the lock */
    bool stop;
    pid_t child;     /* checks what is on disk; killed at the stop. 0: none */
    bool checked_ok; /* the child passed what is on disk: the loop may load it */
    bool refused;    /* it did not; text says why */
    char text[OUTPUT_MAX];
    char **files; /* the closure to watch */
    int32_t file_count;
    bool look; /* columns from outside may have changed: look although no file did */
    struct evolve_outside *outside;
    int32_t outside_count;
    /* loop's */
    uint32_t news; /* of all sources, as seen last */
    struct version staged;
    struct version previous;
    struct version trial; /* its functions are being tried on the state there is */
    struct weir_graph_trial trial_at;
    int32_t cycles; /* of collecting what the set before left behind, still to be done */
};

static void version_fini(struct version *v) {
    weir_graph_destroy(v->graph);
    weir_plan_destroy(v->plan);
    weir_rule_set_unref(v->rule_set);
    memset(v, 0, sizeof(*v));
}

static void tell(struct weir_pipeline *p, const char *text) {
    snprintf(p->note, sizeof(p->note), "%.*s", (int)sizeof(p->note) - 1, text);
    if (p->options.message != NULL) {
        p->options.message(p->options.context, text);
    }
}

/* --- watching ----------------------------------------------------------------------------------
 */

uint64_t reload_rules_stamp(void) {
    return weir_stamp_of_folder("rules", ".lua"); /* new rule files show in their folders */
}

static uint64_t stamp(struct reload *r) {
    uint64_t hash = reload_rules_stamp();
    pthread_mutex_lock(&r->lock);
    for (int32_t i = 0; i < r->file_count; i++) {
        hash = weir_stamp_of_file(r->files[i], hash);
    }
    pthread_mutex_unlock(&r->lock);
    return hash;
}

static void watch_files(struct reload *r, struct weir_rule_set *rule_set) {
    int32_t count = weir_rule_set_file_count(rule_set);
    char **files = calloc((size_t)count + 1, sizeof(*files));
    for (int32_t i = 0; files != NULL && i < count; i++) {
        files[i] = strdup(weir_rule_set_file(rule_set, i));
    }
    pthread_mutex_lock(&r->lock);
    for (int32_t i = 0; i < r->file_count; i++) {
        free(r->files[i]);
    }
    free(r->files);
    r->files = files;
    r->file_count = files != NULL ? count : 0;
    pthread_mutex_unlock(&r->lock);
}

/* --- the child ----------------------------------------------------------------------------------
 */

static bool has_specs(void) {
    struct stat info;
    return stat("spec", &info) == 0 && S_ISDIR(info.st_mode);
}

/* Runs this binary with `arguments`; its output's beginning lands in text. True when it exits 0. */
static bool run_child(struct reload *r, const char *const *arguments, char *text, size_t size) {
    int pipe_ends[2];
    if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
        snprintf(text, size, "cannot start a checking process: %s", strerror(errno));
        return false;
    }
    pid_t parent = getpid();
    pthread_mutex_lock(&r->lock);
    pid_t child = r->stop ? -1 : fork();
    if (child == 0) {
        sigset_t none; /* this thread takes no signals, the program it becomes does */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(127);
        }
        struct rlimit cpu = {CHILD_CPU_SECONDS, CHILD_CPU_SECONDS};
        struct rlimit memory = {(rlim_t)CHILD_MEMORY_MB << 20, (rlim_t)CHILD_MEMORY_MB << 20};
        setrlimit(RLIMIT_CPU, &cpu);
        if (CHILD_MEMORY_LIMITED) {
            setrlimit(RLIMIT_AS, &memory);
        }
        dup2(pipe_ends[1], STDOUT_FILENO);
        dup2(pipe_ends[1], STDERR_FILENO);
        unsetenv("WEIR_FAULT");
        execv(r->p->options.self_path, (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    int failed = errno;
    r->child = child > 0 ? child : 0;
    pthread_mutex_unlock(&r->lock);
    close(pipe_ends[1]);
    if (child < 0) {
        close(pipe_ends[0]);
        snprintf(text, size, "cannot start a checking process: %s", strerror(failed));
        return false;
    }
    size_t used = 0;
    char chunk[4096];
    ssize_t got;
    while ((got = read(pipe_ends[0], chunk, sizeof(chunk))) > 0) {
        size_t room = size - 1 - used;
        size_t keep = (size_t)got < room ? (size_t)got : room;
        memcpy(text + used, chunk, keep);
        used += keep;
    }
    text[used] = '\0';
    close(pipe_ends[0]);
    /* Forgotten before it is reaped: the number may be another process's right after. */
    siginfo_t ended;
    waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT);
    pthread_mutex_lock(&r->lock);
    r->child = 0;
    pthread_mutex_unlock(&r->lock);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
        snprintf(text + used, size - used,
                 "the checking process was stopped by signal %d (limits: "
                 "%d s of CPU, %d MB)",
                 WTERMSIG(status), CHILD_CPU_SECONDS, CHILD_MEMORY_MB);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool check_on_disk(struct reload *r, char *text, size_t size) {
    if (r->p->options.self_path == NULL) {
        return true;
    }
    const char *arguments[SETTINGS_MAX * 2 + 8];
    int count = 0;
    arguments[count++] = "weir";
    arguments[count++] = "check";
    arguments[count++] = r->p->options.path;
    char settings[SETTINGS_MAX][512];
    for (size_t i = 0; i < r->p->options.setting_count && i < SETTINGS_MAX; i++) {
        snprintf(settings[i], sizeof(settings[i]), "%s=%s", r->p->options.settings[i].key,
                 r->p->options.settings[i].value);
        arguments[count++] = "--set";
        arguments[count++] = settings[i];
    }
    arguments[count] = NULL;
    if (!run_child(r, arguments, text, size)) {
        return false;
    }
    if (!has_specs()) {
        return true;
    }
    const char *test[] = {"weir", "test", NULL};
    return run_child(r, test, text, size);
}

/* What the loop will load them with: it must not wait for a registry. Nobody else has the list
 * between a check and the loop's look. */
static bool ask_outside(struct reload *r, char *text, size_t size) {
    struct weir_error err = {0};
    if (evolve_ask(r->outside, r->outside_count, &err) == WEIR_OK) {
        return true;
    }
    snprintf(text, size, "%s", err.message);
    return false;
}

static void *watch(void *context) {
    struct reload *r = context;
    weir_thread_name("reload", -1);
    char text[OUTPUT_MAX] = "";
    uint64_t seen = r->first;
    uint64_t last = seen; /* what the look before saw: an editor may still be writing */
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (last != seen ? SETTLE_MS : POLL_MS) * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&r->changed, &r->lock, &until);
        bool waiting = r->checked_ok || r->refused; /* the loop has not looked yet */
        if (r->stop || waiting) {
            continue;
        }
        bool look = r->look;
        r->look = false;
        pthread_mutex_unlock(&r->lock);
        uint64_t now = stamp(r);
        bool ok = false;
        bool changed = (now != seen && now == last) || (look && now == seen);
        last = now;
        if (changed) {
            seen = now;
            ok = check_on_disk(r, text, sizeof(text)) && ask_outside(r, text, sizeof(text));
            changed = stamp(r) == seen; /* else look again at what came since */
            seen = changed ? seen : 0;
        }
        pthread_mutex_lock(&r->lock);
        if (changed) {
            r->checked_ok = ok;
            r->refused = !ok;
            memcpy(r->text, text, sizeof(text));
            weir_signal_raise(&r->p->signal);
        }
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* --- staging -----------------------------------------------------------------------------------
 */

static bool same_json(json_t *a, json_t *b) {
    return a == b || (a != NULL && b != NULL && json_equal(a, b));
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* What cannot change while the pipeline runs, and why. */
static int check_compatible(struct weir_pipeline *p, struct version *v, struct weir_error *err) {
    const struct weir_plan *old = p->plan;
    const struct weir_plan *new = v->plan;
    if (!same_text(old->storage_root, new->storage_root) ||
        strcmp(old->pipeline, new->pipeline) != 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "the pipeline's name or storage changed; restart to move it");
    }
    bool same_sources = old->source_count == new->source_count;
    for (int32_t i = 0; same_sources && i < old->source_count; i++) {
        same_sources =
            strcmp(old->sources[i].name, new->sources[i].name) == 0 &&
            same_json(old->sources[i].connector_options, new->sources[i].connector_options);
    }
    if (!same_sources) {
        return weir_error_set(err, WEIR_E_CONFIG, "sources changed; restart to read them");
    }
    for (int32_t i = 0; i < old->source_count; i++) {
        int rc = evolve_check_source(p->sources[i].source, &old->sources[i], &new->sources[i], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < weir_graph_dataset_count(v->graph); i++) {
        struct weir_dataset *dataset = weir_graph_dataset(v->graph, i);
        struct weir_dataset *before = weir_graph_find(p->graph, dataset->name);
        bool written = dataset->into != NULL && dataset->into->present;
        if (written && (before == NULL || before->sink == NULL)) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "%s is a new table; restart the pipeline to add it",
                                  dataset->name);
        }
        if (written && (!same_text(before->into->kind, dataset->into->kind) ||
                        !same_text(before->into->options_json, dataset->into->options_json))) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "where %s is written changed; restart the pipeline",
                                  dataset->name);
        }
        int rc = written ? evolve_check_dataset(p, before, dataset, err) : WEIR_OK;
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return weir_graph_check_state(v->graph, p->graph, err);
}

static int load_version(struct weir_pipeline *p, struct weir_rule_set *rule_set, struct version *v,
                        struct weir_error *err) {
    v->rule_set = rule_set;
    int rc = weir_plan_parse(weir_rule_set_plan(rule_set, NULL), &v->plan, err);
    if (rc == WEIR_OK) {
        rc = pipeline_make_graph(p, v->plan, rule_set, &v->graph, err);
    }
    if (rc == WEIR_OK) {
        rc = check_compatible(p, v, err);
    }
    return rc;
}

/* Staged for the next seal; takes the version. */
static void stage_version(struct weir_pipeline *p, struct reload *r, const struct version *v) {
    char text[OUTPUT_MAX];
    r->staged = *v;
    snprintf(text, sizeof(text), "reload: rule set %.8s is staged for the next seal",
             weir_rule_set_hash(v->rule_set));
    if (WEIR_FAULT(reload_staged)) {
        weir_log_error("reload", "injected at reload_staged");
    }
    tell(p, text);
}

static void end_trial(struct reload *r) {
    version_fini(&r->trial);
    r->trial_at = (struct weir_graph_trial){0};
}

/* Functions that migrate state are tried on every key before a version is staged, a slice a turn;
 * a graph they ran in has served. */
static void try_version(struct weir_pipeline *p, struct reload *r) {
    struct weir_error err = {0};
    int64_t end_ns = weir_clock_mono_ns() + TRIAL_NS;
    bool done = false;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && !done && weir_clock_mono_ns() < end_ns) {
        rc = weir_graph_try_state(r->trial.graph, p->graph, &r->trial_at, &done, &err);
    }
    if (rc == WEIR_OK && !done) {
        weir_signal_raise(&p->signal); /* the next turn comes at once */
        return;
    }
    struct version v = {0};
    if (rc == WEIR_OK) {
        rc = load_version(p, weir_rule_set_ref(r->trial.rule_set), &v, &err);
    }
    end_trial(r);
    if (rc == WEIR_OK) {
        stage_version(p, r, &v);
        p->dirty = true;
        return;
    }
    char text[OUTPUT_MAX];
    snprintf(text, sizeof(text), "reload refused, the old rules go on: %s", err.message);
    version_fini(&v);
    tell(p, text);
}

/* What was on its way: newer files say otherwise. */
static void withdraw(struct reload *r) {
    end_trial(r);
    version_fini(&r->staged);
}

/* Takes the version. */
static void propose(struct weir_pipeline *p, struct reload *r, const struct version *v) {
    withdraw(r);
    if (weir_graph_wants_trial(v->graph, p->graph)) {
        r->trial = *v;
        weir_signal_raise(&p->signal);
    } else {
        stage_version(p, r, v);
    }
}

static void stage(struct weir_pipeline *p, struct reload *r) {
    struct weir_error err = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, OUTPUT_MAX);
    struct weir_rule_set *rule_set = NULL;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < r->outside_count; i++) {
        rc = weir_script_set_columns(p->script, r->outside[i].name, r->outside[i].fresh, &err);
    }
    rc = rc != WEIR_OK ? rc
                       : weir_script_load(p->script, p->options.path, p->options.settings,
                                          p->options.setting_count, &rule_set, &report, NULL, &err);
    struct version v = {0};
    if (rc == WEIR_OK &&
        strcmp(weir_rule_set_hash(rule_set), weir_rule_set_hash(p->rule_set)) == 0) {
        weir_rule_set_unref(rule_set);
        weir_buffer_fini(&report);
        bool pending = r->staged.graph != NULL || r->trial.graph != NULL;
        withdraw(r);
        tell(p, pending ? "reload: the change is taken back, the rules stay as they are"
                        : "reload: nothing that matters changed");
        return;
    }
    if (rc == WEIR_OK) {
        rc = load_version(p, rule_set, &v, &err);
    }
    char text[OUTPUT_MAX];
    if (rc != WEIR_OK) {
        snprintf(text, sizeof(text), "reload refused, the old rules go on: %s", err.message);
        version_fini(&v);
    } else {
        weir_buffer_fini(&report);
        propose(p, r, &v);
        return;
    }
    weir_buffer_fini(&report);
    tell(p, text);
}

/* A writer came whose fields the columns lack. */
static void look_at_news(struct weir_pipeline *p, struct reload *r) {
    uint32_t news = 0;
    for (int32_t s = 0; s < p->source_count; s++) {
        news += weir_source_news(p->sources[s].source).columns;
    }
    if (news != r->news && r->outside_count > 0) {
        r->news = news;
        pthread_mutex_lock(&r->lock);
        r->look = true;
        pthread_cond_signal(&r->changed);
        pthread_mutex_unlock(&r->lock);
    }
}

int reload_step(struct weir_pipeline *p, struct weir_error *err) {
    struct reload *r = p->reload;
    if (r->cycles > 0 && weir_script_collect_some(p->script)) {
        r->cycles--;
    }
    (void)err;
    look_at_news(p, r);
    if (r->trial.graph != NULL) {
        try_version(p, r);
    }
    if (atomic_exchange(&p->rollback, false)) {
        if (r->previous.rule_set == NULL) {
            tell(p, "rollback: there was no reload to go back from");
        } else {
            struct version v = {0};
            struct weir_error why = {0};
            if (load_version(p, weir_rule_set_ref(r->previous.rule_set), &v, &why) == WEIR_OK) {
                propose(p, r, &v);
            } else {
                version_fini(&v);
                tell(p, why.message);
            }
        }
        p->dirty = true; /* a seal must come, even without rows */
    }
    pthread_mutex_lock(&r->lock);
    bool ok = r->checked_ok;
    bool refused = r->refused;
    char text[OUTPUT_MAX];
    if (refused) {
        memcpy(text, r->text, sizeof(text));
    }
    r->checked_ok = r->refused = false;
    pthread_mutex_unlock(&r->lock);
    if (refused) {
        char message[OUTPUT_MAX + 64];
        snprintf(message, sizeof(message), "reload refused, the old rules go on:\n%s", text);
        tell(p, message);
    } else if (ok) {
        stage(p, r);
        p->dirty = p->dirty || r->staged.graph != NULL;
    }
    return WEIR_OK;
}

static struct weir_schema *column_schema(const struct weir_plan *plan, const char *source) {
    struct weir_schema *found = NULL;
    for (int32_t i = 0; i < plan->source_count; i++) {
        found = strcmp(plan->sources[i].name, source) == 0 ? plan->sources[i].schema : found;
    }
    return found;
}

int reload_at_seal(struct weir_pipeline *p, struct weir_error *err) {
    struct reload *r = p->reload;
    if (r->staged.graph == NULL || snapshotter_dumping(p->snapshotter)) {
        return WEIR_OK;
    }
    struct version v = r->staged;
    memset(&r->staged, 0, sizeof(r->staged));
    int64_t start_ns = weir_clock_mono_ns();
    struct weir_buffer saved;
    weir_buffer_init(&saved, 64 << 20);
    int rc = weir_graph_save(p->graph, &saved);
    if (rc == WEIR_OK) {
        rc = weir_graph_load(v.graph, saved.data, saved.size, err);
    }
    weir_buffer_fini(&saved);
    if (rc == WEIR_OK) {
        weir_graph_clear_breaches(v.graph);
        rc = weir_graph_take_state(v.graph, p->graph, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_bind_sinks(p, v.graph, err);
    }
    if (rc == WEIR_OK) {
        rc = evolve_apply(p, v.graph, v.plan, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_bind_duties(p, v.graph, err);
    }
    if (rc != WEIR_OK) {
        version_fini(&v);
        return rc;
    }
    version_fini(&r->previous);
    r->previous = (struct version){.rule_set = p->rule_set, .plan = p->plan};
    weir_graph_destroy(p->graph);
    p->graph = v.graph;
    p->plan = v.plan;
    p->rule_set = v.rule_set;
    watch_files(r, v.rule_set);
    weir_script_retire(p->script);
    r->cycles = COLLECT_CYCLES;
    for (int32_t i = 0; i < r->outside_count; i++) { /* the next ask goes on from here */
        struct weir_schema *now = column_schema(p->plan, r->outside[i].name);
        weir_schema_unref(r->outside[i].known);
        r->outside[i].known = weir_schema_ref(now);
    }
    const char *hash = weir_rule_set_hash(p->rule_set);
    struct weir_message message = {
        .kind = WEIR_MESSAGE_RULE_SET,
        .clock_us = p->clock_us,
        .hash = strtoull((char[17]){hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6],
                                    hash[7], hash[8], hash[9], hash[10], hash[11], hash[12],
                                    hash[13], hash[14], hash[15], 0},
                         NULL, 16),
        .reason = hash,
        .reason_size = strlen(hash),
    };
    rc = schedule_add(p, &message);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "schedule: out of memory");
    }
    if (WEIR_FAULT(reload_swapped)) {
        return weir_error_set(err, WEIR_E_FAULT, "injected at reload_swapped");
    }
    char text[128];
    snprintf(text, sizeof(text), "reload: rule set %.8s is live from epoch %llu", hash,
             (unsigned long long)p->epoch);
    weir_log_info("reload", "swapped in %.3f ms rule_set=%.8s",
                  (double)(weir_clock_mono_ns() - start_ns) / 1e6, hash);
    tell(p, text);
    return WEIR_OK;
}

static void reload_free(struct reload *r) {
    version_fini(&r->trial);
    version_fini(&r->staged);
    version_fini(&r->previous);
    for (int32_t i = 0; i < r->file_count; i++) {
        free(r->files[i]);
    }
    free(r->files);
    evolve_outside_free(r->outside, r->outside_count);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    free(r);
}

int reload_create(struct weir_pipeline *p, struct reload **out, struct weir_error *err) {
    struct reload *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "reload: out of memory");
    }
    r->p = p;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    watch_files(r, p->rule_set);
    r->first = stamp(r);
    if (reload_rules_stamp() != p->rules_stamp) { /* saved while they were loaded, or state was */
        r->first = 0;
    }
    int rc = evolve_outside_of(p->plan, &r->outside, &r->outside_count, err);
    if (rc != WEIR_OK) {
        reload_free(r);
        return rc;
    }
    if (weir_thread_start(&r->thread, watch, r) != 0) {
        reload_free(r);
        return weir_error_set(err, WEIR_E_ENVIRONMENT, "reload: cannot start a thread");
    }
    *out = r;
    return WEIR_OK;
}

void reload_destroy(struct reload *r) {
    if (r == NULL) {
        return;
    }
    pthread_mutex_lock(&r->lock);
    r->stop = true;
    if (r->child > 0) {
        kill(r->child, SIGKILL); /* nobody waits for its answer any more */
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    reload_free(r);
}
