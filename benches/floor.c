/* The floor under the limiters: commands that do what each of them must do at least. FLOOR.FIVE key a b c reads three
 * integers and replies five. FLOOR.READ key a b c opens the key, too, and looks at its string and its expiry. Neither
 * changes anything. FLOOR.WRITE key a b c also writes a value of the same length in place, which keeps the expiry,
 * replicates it as SET key value KEEPTTL, and tells who watches the key and who listens to its events. */

#include <stddef.h>

static int (*string_to_long_long)(const void *, long long *);
static int (*reply_with_array)(void *, long);
static int (*reply_with_long_long)(void *, long long);
static int (*wrong_arity)(void *);
static void *(*open_key)(void *, void *, int);
static void (*close_key)(void *);
static char *(*string_dma)(void *, size_t *, int);
static long long (*get_abs_expire)(void *);
static void *(*create_string)(void *, const char *, size_t);
static void (*free_string)(void *, void *);
static int (*replicate)(void *, const char *, const char *, ...);
static int (*signal_modified_key)(void *, void *);
static int (*notify_keyspace_event)(void *, int, const char *, void *);
static void *keepttl;

enum { READ = 1, WRITE = 2, NOTIFY_STRING = 1 << 3, NO_IMPLICIT_SIGNAL_MODIFIED = 1 << 1 };

static int five(void *ctx, void **argv, int argc) {
    long long numbers[3];
    if (argc != 5)
        return wrong_arity(ctx);
    for (int i = 0; i < 3; i++)
        if (string_to_long_long(argv[2 + i], &numbers[i]) != 0)
            return wrong_arity(ctx);
    reply_with_array(ctx, 5);
    reply_with_long_long(ctx, 1);
    reply_with_long_long(ctx, numbers[0] + 1);
    reply_with_long_long(ctx, 0);
    reply_with_long_long(ctx, numbers[2]);
    return reply_with_long_long(ctx, numbers[2]);
}

static int read(void *ctx, void **argv, int argc) {
    if (argc != 5)
        return wrong_arity(ctx);
    void *key = open_key(ctx, argv[1], READ | WRITE);
    size_t length;
    volatile char first = *string_dma(key, &length, READ);
    volatile long long expire = get_abs_expire(key);
    (void)first, (void)expire;
    int replied = five(ctx, argv, argc);
    close_key(key);
    return replied;
}

static int write(void *ctx, void **argv, int argc) {
    if (argc != 5)
        return wrong_arity(ctx);
    void *key = open_key(ctx, argv[1], READ | WRITE);
    size_t length;
    volatile long long expire = get_abs_expire(key);
    (void)expire;
    char *value = string_dma(key, &length, WRITE);
    value[length - 1] ^= 1;
    void *text = create_string(NULL, value, length);
    close_key(key);
    replicate(ctx, "SET", "sss", argv[1], text, keepttl);
    signal_modified_key(ctx, argv[1]);
    notify_keyspace_event(ctx, NOTIFY_STRING, "set", argv[1]);
    free_string(NULL, text);
    return five(ctx, argv, argc);
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    int (*get_api)(const char *, void *) = *(int (**)(const char *, void *))ctx;
    void (*set_attribs)(void *, const char *, int, int);
    int (*create_command)(void *, const char *, int (*)(void *, void **, int), const char *, int, int, int);
    get_api("RedisModule_SetModuleAttribs", (void *)&set_attribs);
    get_api("RedisModule_CreateCommand", (void *)&create_command);
    get_api("RedisModule_StringToLongLong", (void *)&string_to_long_long);
    get_api("RedisModule_ReplyWithArray", (void *)&reply_with_array);
    get_api("RedisModule_ReplyWithLongLong", (void *)&reply_with_long_long);
    get_api("RedisModule_WrongArity", (void *)&wrong_arity);
    get_api("RedisModule_OpenKey", (void *)&open_key);
    get_api("RedisModule_CloseKey", (void *)&close_key);
    get_api("RedisModule_StringDMA", (void *)&string_dma);
    get_api("RedisModule_GetAbsExpire", (void *)&get_abs_expire);
    get_api("RedisModule_CreateString", (void *)&create_string);
    get_api("RedisModule_FreeString", (void *)&free_string);
    get_api("RedisModule_Replicate", (void *)&replicate);
    get_api("RedisModule_SignalModifiedKey", (void *)&signal_modified_key);
    get_api("RedisModule_NotifyKeyspaceEvent", (void *)&notify_keyspace_event);
    void (*set_module_options)(void *, int);
    get_api("RedisModule_SetModuleOptions", (void *)&set_module_options);
    set_attribs(ctx, "floor", 1, 1);
    set_module_options(ctx, NO_IMPLICIT_SIGNAL_MODIFIED);
    keepttl = create_string(NULL, "KEEPTTL", 7);
    return create_command(ctx, "floor.five", five, "readonly fast", 1, 1, 1) ||
           create_command(ctx, "floor.read", read, "write fast", 1, 1, 1) ||
           create_command(ctx, "floor.write", write, "write fast", 1, 1, 1);
}
