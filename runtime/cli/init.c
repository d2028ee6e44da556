/* weir init DIR */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

/* The template as blocks: path, newline, length, newline, text. */
static const char template_chunk[] =
    "local out = {}\n"
    "for _, file in ipairs(require('weir').template(...)) do\n"
    "  out[#out + 1] = file.path .. '\\n' .. #file.text .. '\\n' .. file.text\n"
    "end\n"
    "return table.concat(out)\n";

static int write_file(const char *root, const char *path, const char *text, size_t length,
                      struct weir_error *err) {
    char full[4096];
    if ((size_t)snprintf(full, sizeof(full), "%s/%s", root, path) >= sizeof(full)) {
        return weir_error_set(err, WEIR_E_USAGE, "%s: the path is too long", root);
    }
    for (char *c = full + strlen(root) + 1; *c != '\0'; c++) {
        if (*c == '/') {
            *c = '\0';
            mkdir(full, 0777);
            *c = '/';
        }
    }
    FILE *file = fopen(full, "wx");
    if (file == NULL && errno == EEXIST) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "%s is there already and is left as it is; name a folder that is new "
                              "or empty",
                              full);
    }
    if (file == NULL) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "cannot write %s", full);
    }
    bool ok = fwrite(text, 1, length, file) == length;
    ok = fclose(file) == 0 && ok;
    if (!ok) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "%s", full);
    }
    printf("  %s\n", full);
    return WEIR_OK;
}

static bool can_name(const char *name) {
    const char *c = name;
    while ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
           *c == '_' || *c == '-') {
        c++;
    }
    return *c == '\0' && c != name;
}

int weir_cli_init(struct weir_arguments *arguments) {
    struct weir_error err = {0};
    if (arguments->positional_count != 1) {
        return weir_cli_usage(arguments, "init wants one folder");
    }
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s", arguments->positionals[0]);
    for (size_t end = strlen(root); end > 1 && root[end - 1] == '/'; end--) {
        root[end - 1] = '\0';
    }
    bool made = mkdir(root, 0777) == 0;
    char whole[PATH_MAX];
    if ((!made && errno != EEXIST) || realpath(root, whole) == NULL) {
        weir_error_system(&err, WEIR_E_ENVIRONMENT, errno, "cannot make the folder %s", root);
        return weir_cli_fail(arguments, &err);
    }
    const char *name = strrchr(whole, '/') + 1; /* also that of "." and "shop/" */
    if (!can_name(name)) {
        if (made) {
            rmdir(root);
        }
        return weir_cli_usage(arguments,
                              "the folder's name, '%s', is to be the project's: letters, digits, _ "
                              "and - only",
                              name);
    }
    struct weir_script *script;
    struct weir_script_options options = {0};
    struct weir_buffer files;
    weir_buffer_init(&files, 4 << 20);
    int rc = weir_script_create(&options, &script, &err);
    char chunk[sizeof(template_chunk) + 256];
    snprintf(chunk, sizeof(chunk), "return (function(...)\n%send)('%.200s')", template_chunk, name);
    if (rc == WEIR_OK) {
        rc = weir_script_run(script, chunk, strlen(chunk), "=init", &files, &err);
        weir_script_destroy(script);
    }
    const char *at = rc == WEIR_OK ? weir_buffer_text(&files) : NULL;
    const char *end = at != NULL ? at + files.size : NULL;
    while (rc == WEIR_OK && at < end) {
        char path[512];
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        snprintf(path, sizeof(path), "%.*s", (int)(newline - at), at);
        char *text;
        unsigned long length = strtoul(newline + 1, &text, 10);
        rc = write_file(root, path, text + 1, length, &err);
        at = text + 1 + length;
    }
    weir_buffer_fini(&files);
    if (rc != WEIR_OK) {
        return weir_cli_fail(arguments, &err);
    }
    bool here = strcmp(root, ".") == 0;
    printf("A project that runs. Next: %s%s%sweir test, then weir run pipelines/%s.lua\n",
           here ? "" : "cd ", here ? "" : root, here ? "" : ", ", name);
    return WEIR_EXIT_DONE;
}
