#include "core/stamp.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 16, PATH_BYTES = 2048, ONE_OF_A_FOLDER = 7 };

static uint64_t mix(uint64_t hash, uint64_t value) {
    return (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15) + (hash >> 29);
}

uint64_t weir_stamp_of_file(const char *path, uint64_t hash) {
    struct stat info;
    for (const char *c = path; *c != '\0'; c++) {
        hash = mix(hash, (unsigned char)*c);
    }
    if (stat(path, &info) != 0) {
        return mix(hash, 1);
    }
    hash = mix(hash, (uint64_t)info.st_ino);
    hash = mix(hash, (uint64_t)info.st_size);
    hash = mix(hash, (uint64_t)info.st_mtim.tv_sec);
    return mix(hash, (uint64_t)info.st_mtim.tv_nsec);
}

static bool ends(const char *name, const char *ending) {
    size_t length = strlen(name);
    size_t wanted = ending != NULL ? strlen(ending) : 0;
    return length > wanted && (wanted == 0 || strcmp(name + length - wanted, ending) == 0);
}

static uint64_t below(const char *path, const char *ending, int depth) {
    DIR *directory = depth < DEPTH_MAX ? opendir(path) : NULL;
    uint64_t sum = 0;
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char child[PATH_BYTES];
        snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR) {
            sum += below(child, ending, depth + 1);
        } else if (ends(child, ending)) {
            sum += weir_stamp_of_file(child, ONE_OF_A_FOLDER);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return sum;
}

uint64_t weir_stamp_of_folder(const char *path, const char *ending) {
    return below(path, ending, 0);
}
