/* The floor under the limiters: a command that does what each of them must do at least. FLOOR.FIVE key a b c reads
 * three integers and replies five. It opens no key and changes nothing. */

static int (*string_to_long_long)(const void *, long long *);
static int (*reply_with_array)(void *, long);
static int (*reply_with_long_long)(void *, long long);
static int (*wrong_arity)(void *);

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
    set_attribs(ctx, "floor", 1, 1);
    return create_command(ctx, "floor.five", five, "readonly fast", 1, 1, 1);
}
