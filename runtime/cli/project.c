/* Where a project is: relative paths in rules start at the folder that holds pipelines/. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

static bool has_pipelines(const char *directory) {
    char path[PATH_MAX + 16];
    struct stat info;
    snprintf(path, sizeof(path), "%s/pipelines", directory);
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int weir_cli_enter_project(const char *path, char **relative, struct weir_error *err) {
    char full[PATH_MAX];
    char root[PATH_MAX];
    *relative = NULL;
    struct stat info;
    if (realpath(path, full) == NULL || stat(full, &info) != 0) {
        const char *way_out = errno == ENOENT ? "; check the path, which starts where you are" : "";
        return weir_error_set(err, WEIR_E_USAGE, "%s: %s%s", path, strerror(errno), way_out);
    }
    if (S_ISDIR(info.st_mode)) {
        return weir_error_set(err, WEIR_E_USAGE, "%s is a folder; name a file in it", path);
    }
    snprintf(root, sizeof(root), "%s", full);
    bool found = false;
    for (char *slash = strrchr(root, '/'); slash != NULL && slash != root;
         slash = strrchr(root, '/')) {
        *slash = '\0';
        if (has_pipelines(root)) {
            found = true;
            break;
        }
    }
    if (!found) { /* no project: the file's own folder */
        snprintf(root, sizeof(root), "%s", full);
        *strrchr(root, '/') = '\0';
    }
    if (root[0] != '\0' && chdir(root) != 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno, "%s", root);
    }
    *relative = strdup(full + strlen(root) + 1);
    return *relative != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

int weir_cli_find_pipeline(char **path, struct weir_error *err) {
    *path = NULL;
    DIR *directory = opendir("pipelines");
    if (directory == NULL) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "there is no pipelines/ here; name a pipeline file, or start a "
                              "project with `weir init DIR`");
    }
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".lua") == 0) {
            count++;
            free(*path);
            *path = malloc(length + 16);
            if (*path != NULL) {
                snprintf(*path, length + 16, "pipelines/%s", entry->d_name);
            }
        }
    }
    closedir(directory);
    if (count != 1 || *path == NULL) {
        free(*path);
        *path = NULL;
        return weir_error_set(err, WEIR_E_USAGE,
                              "pipelines/ holds %d pipelines; name the one you mean", count);
    }
    return WEIR_OK;
}
