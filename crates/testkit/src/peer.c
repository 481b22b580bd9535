/* A module that has a command named CL.THROTTLE already. */
static int pong(void *ctx, void **argv, int argc) {
    (void)ctx, (void)argv, (void)argc;
    return 0;
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
    (void)argv, (void)argc;
    int (*get_api)(const char *, void *) = *(int (**)(const char *, void *))ctx;
    void (*set_attribs)(void *, const char *, int, int);
    int (*create_command)(void *, const char *, int (*)(void *, void **, int), const char *, int, int, int);
    get_api("RedisModule_SetModuleAttribs", (void *)&set_attribs);
    get_api("RedisModule_CreateCommand", (void *)&create_command);
    set_attribs(ctx, "peer", 1, 1);
    return create_command(ctx, "cl.throttle", pong, "", 1, 1, 1);
}
