/* native.read_file, list_files, getenv, hash, json: what the loader needs of the machine. Rules
 * never see these. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "script/internal.h"
#include "script/parser.h"

#define FOLDER_DEPTH_MAX 16
#define FILES_MAX 100000
#define JSON_DEPTH_MAX 200

static int push_failure(lua_State *lua, const char *path, const char *reason) {
    lua_pushnil(lua);
    lua_pushfstring(lua, "%s: %s", path, reason);
    return 2;
}

static int native_read_file(lua_State *lua) {
    const char *path = luaL_checkstring(lua, 1);
    lua_Number cap = luaL_optnumber(lua, 2, (lua_Number)WEIR_LUA_SOURCE_BYTES_MAX);
    struct stat status;
    if (stat(path, &status) != 0) {
        return push_failure(lua, path, strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return push_failure(lua, path, "not a file");
    }
    if ((lua_Number)status.st_size > cap) {
        return push_failure(lua, path, "too large to be a script or schema");
    }
    /* Lua may throw, so it is asked for memory while nothing is open. */
    size_t room = (size_t)status.st_size + 1;
    char *text = lua_newuserdata(lua, room);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return push_failure(lua, path, strerror(errno));
    }
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && size < room) {
        got = read(fd, text + size, room - size);
        size += got > 0 ? (size_t)got : 0;
    }
    int failure = errno;
    close(fd);
    if (got < 0) {
        return push_failure(lua, path, strerror(failure));
    }
    if (size == room) {
        return push_failure(lua, path, "is being written, try again");
    }
    lua_pushlstring(lua, text, size);
    return 1;
}

static int native_file_exists(lua_State *lua) {
    struct stat status;
    lua_pushboolean(lua, stat(luaL_checkstring(lua, 1), &status) == 0 && S_ISREG(status.st_mode));
    return 1;
}

/* --- folders -------------------------------------------------------------------------------- */

struct listing {
    char **paths;
    size_t count;
    size_t capacity;
    const char *suffix;
    bool failed; /* out of memory, or too many */
};

static void listing_add(struct listing *list, const char *path) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        char **paths =
            capacity <= FILES_MAX * 2 ? realloc(list->paths, capacity * sizeof(*paths)) : NULL;
        if (paths == NULL) {
            list->failed = true;
            return;
        }
        list->paths = paths;
        list->capacity = capacity;
    }
    list->paths[list->count] = strdup(path);
    if (list->paths[list->count] == NULL) {
        list->failed = true;
        return;
    }
    list->count++;
}

static bool ends_with(const char *text, const char *suffix) {
    size_t n = strlen(text);
    size_t m = strlen(suffix);
    return n >= m && memcmp(text + n - m, suffix, m) == 0;
}

static int list_folder(struct listing *list, const char *folder, int depth) {
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        return errno;
    }
    struct dirent *entry;
    while (!list->failed && (entry = readdir(directory)) != NULL) {
        char path[4096];
        struct stat status;
        if (entry->d_name[0] == '.') {
            continue; /* ".", "..", and what editors leave behind */
        }
        int n = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof(path) || stat(path, &status) != 0) {
            continue;
        }
        if (S_ISDIR(status.st_mode) && depth < FOLDER_DEPTH_MAX) {
            list_folder(list, path, depth + 1);
        } else if (S_ISREG(status.st_mode) && ends_with(path, list->suffix)) {
            listing_add(list, path);
        }
    }
    closedir(directory);
    return 0;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int listing_gc(lua_State *lua) {
    struct listing *list = lua_touserdata(lua, 1);
    for (size_t i = 0; i < list->count; i++) {
        free(list->paths[i]);
    }
    free(list->paths);
    list->paths = NULL;
    list->count = 0;
    return 0;
}

static int native_list_files(lua_State *lua) {
    const char *folder = luaL_checkstring(lua, 1);
    const char *suffix = luaL_optstring(lua, 2, "");
    struct listing *list = lua_newuserdata(lua, sizeof(*list));
    memset(list, 0, sizeof(*list));
    list->suffix = suffix;
    if (luaL_newmetatable(lua, "weir.listing")) {
        lua_pushcfunction(lua, listing_gc);
        lua_setfield(lua, -2, "__gc");
    }
    lua_setmetatable(lua, -2);
    int failure = list_folder(list, folder, 0);
    if (failure != 0) {
        return push_failure(lua, folder, strerror(failure));
    }
    if (list->failed) {
        return push_failure(lua, folder, "too many files");
    }
    if (list->count > 0) {
        qsort(list->paths, list->count, sizeof(*list->paths), compare_paths);
    }
    lua_createtable(lua, (int)list->count, 0);
    for (size_t i = 0; i < list->count; i++) {
        lua_pushstring(lua, list->paths[i]);
        lua_rawseti(lua, -2, (int)i + 1);
    }
    return 1;
}

static int native_getenv(lua_State *lua) {
    const char *value = getenv(luaL_checkstring(lua, 1));
    if (value == NULL) {
        lua_pushnil(lua);
    } else {
        lua_pushstring(lua, value);
    }
    return 1;
}

static int native_hash(lua_State *lua) {
    size_t length;
    const char *text = luaL_checklstring(lua, 1, &length);
    XXH128_hash_t hash = XXH3_128bits(text, length);
    char hex[33];
    snprintf(hex, sizeof(hex), "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    lua_pushstring(lua, hex);
    return 1;
}

/* --- json ----------------------------------------------------------------------------------- */

#define JSON_KEYS                                                                                  \
    "weir.json_keys" /* registry: weak table object -> list of keys, array -> true                 \
                      */

static void json_note(lua_State *lua, int object) {
    lua_getfield(lua, LUA_REGISTRYINDEX, JSON_KEYS);
    lua_pushvalue(lua, object);
    lua_pushvalue(lua, -3);
    lua_rawset(lua, -3);
    lua_pop(lua, 2);
}

static void push_json(lua_State *lua, json_t *value) {
    luaL_checkstack(lua, 8, "JSON nested too deep");
    switch (json_typeof(value)) {
    case JSON_OBJECT: {
        const char *key;
        json_t *item;
        int i = 1;
        lua_createtable(lua, 0, (int)json_object_size(value));
        int object = lua_gettop(lua);
        lua_createtable(lua, (int)json_object_size(value), 0);
        json_object_foreach(value, key, item) {
            lua_pushstring(lua, key);
            lua_rawseti(lua, -2, i++);
            push_json(lua, item);
            lua_setfield(lua, object, key);
        }
        json_note(lua, object);
        break;
    }
    case JSON_ARRAY:
        lua_createtable(lua, (int)json_array_size(value), 0);
        for (size_t i = 0; i < json_array_size(value); i++) {
            push_json(lua, json_array_get(value, i));
            lua_rawseti(lua, -2, (int)i + 1);
        }
        lua_pushboolean(lua, true);
        json_note(lua, lua_gettop(lua) - 1);
        break;
    case JSON_STRING:
        lua_pushlstring(lua, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER: {
        json_int_t n = json_integer_value(value);
        if (n > (1LL << 53) || n < -(1LL << 53)) {
            char digits[24];
            lua_pushlstring(lua, digits, (size_t)weir_int64_to_text(n, digits));
        } else {
            lua_pushnumber(lua, (lua_Number)n);
        }
        break;
    }
    case JSON_REAL:
        lua_pushnumber(lua, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(lua, json_is_true(value));
        break;
    case JSON_NULL:
        lua_pushlightuserdata(lua, NULL);
        break;
    }
}

static int json_box_gc(lua_State *lua) {
    json_t **box = lua_touserdata(lua, 1);
    json_decref(*box);
    *box = NULL;
    return 0;
}

static int native_json_decode(lua_State *lua) {
    size_t length;
    const char *text = luaL_checklstring(lua, 1, &length);
    json_error_t problem;
    json_t **box = lua_newuserdata(lua, sizeof(json_t *));
    *box = NULL;
    if (luaL_newmetatable(lua, "weir.json")) {
        lua_pushcfunction(lua, json_box_gc);
        lua_setfield(lua, -2, "__gc");
    }
    lua_setmetatable(lua, -2);
    *box = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (*box == NULL) {
        lua_pushnil(lua);
        lua_pushfstring(lua, "line %d, column %d: %s", problem.line, problem.column, problem.text);
        return 2;
    }
    push_json(lua, *box);
    return 1;
}

static int json_lookup(lua_State *lua) {
    luaL_checktype(lua, 1, LUA_TTABLE);
    lua_getfield(lua, LUA_REGISTRYINDEX, JSON_KEYS);
    lua_pushvalue(lua, 1);
    lua_rawget(lua, -2);
    return lua_type(lua, -1);
}

static int native_json_keys(lua_State *lua) {
    if (json_lookup(lua) != LUA_TTABLE) {
        lua_pushnil(lua);
    }
    return 1;
}

static int native_json_is_array(lua_State *lua) {
    lua_pushboolean(lua, json_lookup(lua) == LUA_TBOOLEAN);
    return 1;
}

/* Bytes of the valid UTF-8 sequence at text[i], 0 when there is none. */
static size_t utf8_length(const uint8_t *text, size_t i, size_t length) {
    uint8_t c = text[i];
    if (c < 0x80) {
        return 1;
    }
    size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    if (c < 0xc2 || c > 0xf4 || length - i < n) {
        return 0;
    }
    for (size_t k = 1; k < n; k++) {
        if ((text[i + k] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xe0 && text[i + 1] < 0xa0) || (c == 0xed && text[i + 1] > 0x9f) ||
        (c == 0xf0 && text[i + 1] < 0x90) || (c == 0xf4 && text[i + 1] > 0x8f)) {
        return 0;
    }
    return n;
}

static int native_json_quote(lua_State *lua) {
    size_t length;
    const uint8_t *text = (const uint8_t *)luaL_checklstring(lua, 1, &length);
    luaL_Buffer out;
    luaL_buffinit(lua, &out);
    luaL_addchar(&out, '"');
    for (size_t i = 0; i < length;) {
        uint8_t c = text[i];
        size_t n = utf8_length(text, i, length);
        if (n == 0) {
            luaL_addstring(&out, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            luaL_addchar(&out, '\\');
            luaL_addchar(&out, (char)c);
        } else if (c == '\n') {
            luaL_addstring(&out, "\\n");
        } else if (c < 0x20 || c == 0x7f) {
            char escape[8];
            snprintf(escape, sizeof(escape), "\\u%04x", c);
            luaL_addstring(&out, escape);
        } else {
            luaL_addlstring(&out, (const char *)text + i, n);
        }
        i += n;
    }
    luaL_addchar(&out, '"');
    luaL_pushresult(&out);
    return 1;
}

static int native_now_us(lua_State *lua) {
    lua_pushnumber(lua, (lua_Number)weir_native_now_us());
    return 1;
}

static int native_random(lua_State *lua) {
    lua_pushnumber(lua, weir_native_random());
    return 1;
}

static int native_pow(lua_State *lua) {
    lua_Number a = luaL_checknumber(lua, 1);
    lua_pushnumber(lua, weir_math_pow(a, luaL_checknumber(lua, 2)));
    return 1;
}

void weir_script_open_host(lua_State *lua) {
    static const luaL_Reg functions[] = {{"read_file", native_read_file},
                                         {"list_files", native_list_files},
                                         {"file_exists", native_file_exists},
                                         {"getenv", native_getenv},
                                         {"hash", native_hash},
                                         {"json_decode", native_json_decode},
                                         {"json_keys", native_json_keys},
                                         {"json_is_array", native_json_is_array},
                                         {"json_quote", native_json_quote},
                                         {"now_us", native_now_us},
                                         {"random", native_random},
                                         {"pow", native_pow},
                                         {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushcfunction(lua, f->func);
        lua_setfield(lua, -2, f->name);
    }
    lua_pushlightuserdata(lua, NULL);
    lua_setfield(lua, -2, "null");
    lua_newtable(lua);
    lua_createtable(lua, 0, 1);
    lua_pushstring(lua, "k");
    lua_setfield(lua, -2, "__mode");
    lua_setmetatable(lua, -2);
    lua_setfield(lua, LUA_REGISTRYINDEX, JSON_KEYS);
}
