/* A module that writes while it is told of events, as search and trigger modules do.
 *
 * NEIGHBOUR.WHEN event end action [target ...]
 *     From now on, when `event` (* for any) is told of a key whose name ends with `end` (* for any), it does `action` to
 *     each target that exists, or to the key itself if there is no target: DEL, RETYPE (a set takes its place), EXPIRE
 *     (an hour ago), or LOG (the name of the event is pushed to the list neighbour:log). NONE: nothing.
 * NEIGHBOUR.COUNT
 *     How often it has acted since then.
 * Keys whose names begin with `neighbour:` are its own. */

#include <stddef.h>
#include <string.h>

static void *(*create_string)(void *, const char *, size_t);
static void (*free_string)(void *, void *);
static const char *(*string_ptr_len)(const void *, size_t *);
static void *(*call)(void *, const char *, const char *, ...);
static void (*free_call_reply)(void *);
static int (*reply_with_long_long)(void *, long long);
static int (*wrong_arity)(void *);

enum { MOST = 64, NOTIFY = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 };

static void *targets[MOST];
static int target_count, acting;
static long long acted;
static char event_wanted[64] = "*", end_wanted[256] = "*", action[64] = "NONE";

static void run(void *ctx, const char *command, const char *format, void *key, const char *argument) {
    void *reply = call(ctx, command, format, key, argument);
    if (reply)
        free_call_reply(reply);
}

static void act(void *ctx, const char *event, void *key) {
    if (!strcmp(action, "LOG")) {
        run(ctx, "LPUSH", "!cc", "neighbour:log", event);
    } else if (!strcmp(action, "DEL")) {
        run(ctx, "DEL", "!s", key, NULL);
    } else if (!strcmp(action, "EXPIRE")) {
        run(ctx, "PEXPIREAT", "!sc", key, "1000");
    } else if (!strcmp(action, "RETYPE")) {
        run(ctx, "DEL", "!s", key, NULL);
        run(ctx, "SADD", "!sc", key, "neighbour");
    }
}

static int told(void *ctx, int type, const char *event, void *key) {
    size_t len, end = strlen(end_wanted);
    const char *name = string_ptr_len(key, &len);
    (void)type;
    if (acting || !strcmp(action, "NONE") || (len >= 10 && !memcmp(name, "neighbour:", 10)))
        return 0;
    if (strcmp(event_wanted, "*") && strcmp(event_wanted, event))
        return 0;
    if (strcmp(end_wanted, "*") && (len < end || memcmp(name + len - end, end_wanted, end)))
        return 0;
    acting = 1;
    acted++;
    if (!target_count)
        act(ctx, event, key);
    for (int i = 0; i < target_count; i++)
        act(ctx, event, targets[i]);
    acting = 0;
    return 0;
}

static void copy(char *to, size_t size, void *string) {
    size_t len;
    const char *bytes = string_ptr_len(string, &len);
    len = len < size - 1 ? len : size - 1;
    memcpy(to, bytes, len);
    to[len] = 0;
}

static int when(void *ctx, void **argv, int argc) {
    if (argc < 4 || argc - 4 > MOST)
        return wrong_arity(ctx);
    while (target_count)
        free_string(NULL, targets[--target_count]);
    copy(event_wanted, sizeof event_wanted, argv[1]);
    copy(end_wanted, sizeof end_wanted, argv[2]);
    copy(action, sizeof action, argv[3]);
    for (int i = 4; i < argc; i++) {
        size_t len;
        const char *bytes = string_ptr_len(argv[i], &len);
        targets[target_count++] = create_string(NULL, bytes, len);
    }
    acted = 0;
    return reply_with_long_long(ctx, target_count);
}

static int count(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    return reply_with_long_long(ctx, acted);
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    int (*get_api)(const char *, void *) = *(int (**)(const char *, void *))ctx;
    void (*set_attribs)(void *, const char *, int, int);
    int (*create_command)(void *, const char *, int (*)(void *, void **, int), const char *, int, int, int);
    int (*subscribe)(void *, int, int (*)(void *, int, const char *, void *));
    (void)argv, (void)argc;
    get_api("RedisModule_SetModuleAttribs", (void *)&set_attribs);
    get_api("RedisModule_CreateCommand", (void *)&create_command);
    get_api("RedisModule_SubscribeToKeyspaceEvents", (void *)&subscribe);
    get_api("RedisModule_CreateString", (void *)&create_string);
    get_api("RedisModule_FreeString", (void *)&free_string);
    get_api("RedisModule_StringPtrLen", (void *)&string_ptr_len);
    get_api("RedisModule_Call", (void *)&call);
    get_api("RedisModule_FreeCallReply", (void *)&free_call_reply);
    get_api("RedisModule_ReplyWithLongLong", (void *)&reply_with_long_long);
    get_api("RedisModule_WrongArity", (void *)&wrong_arity);
    set_attribs(ctx, "neighbour", 1, 1);
    if (create_command(ctx, "neighbour.when", when, "admin", 0, 0, 0))
        return 1;
    if (create_command(ctx, "neighbour.count", count, "readonly", 0, 0, 0))
        return 1;
    return subscribe(ctx, NOTIFY, told);
}
