/*
 * tls_ciphers.c - the ciphers option: which of the good ciphers are offered, in which order.
 *
 * The names that GnuTLS, OpenSSL and IANA have for the same cipher are all understood, so that a
 * list written for another server works; what is not among the three is refused, because the others
 * are weak, slow, or unknown to QUIC.
 */
#include "tls_internal.h"

#define AES128 "+AES-128-GCM"
#define AES256 "+AES-256-GCM"
#define CHACHA "+CHACHA20-POLY1305"

/* Without punctuation, in lower case. */
static const struct {
    const char *name, *priority[2];
} known[] = {
    {"aes128gcm", {AES128}},        {"aes256gcm", {AES256}}, {"aesgcm", {AES128, AES256}},
    {"chacha20poly1305", {CHACHA}}, {"chacha20", {CHACHA}},
};

static bool take_prefix(const char **p, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*p, prefix, n) != 0)
        return false;
    *p += n;
    return true;
}

/* "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256" and "aes-128-gcm" become
 * "aes128gcm". */
static void normalize(char out[64], const char *p, size_t n)
{
    char name[64];
    size_t len = 0;
    for (size_t i = 0; i < n && len < sizeof(name) - 1; i++) {
        char c = ph_lower(p[i]);
        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            name[len++] = c;
    }
    name[len] = '\0';
    const char *from = name;
    take_prefix(&from, "tls");
    if (take_prefix(&from, "ecdhe") && !take_prefix(&from, "ecdsa"))
        take_prefix(&from, "rsa");
    take_prefix(&from, "with");
    len = strlen(from);
    if (len > 6 && (strcmp(from + len - 6, "sha256") == 0 || strcmp(from + len - 6, "sha384") == 0))
        len -= 6;
    memcpy(out, from, len);
    out[len] = '\0';
}

static void append(char *out, const char *priority)
{
    if (priority == NULL || strstr(out, priority) != NULL)
        return; /* the first place counts */
    size_t n = strlen(out);
    snprintf(out + n, PH_TLS_CIPHERS_LEN - n, "%s%s", n > 0 ? ":" : "", priority);
}

int ph_tls_ciphers_parse(char out[PH_TLS_CIPHERS_LEN], const char *text)
{
    out[0] = '\0';
    for (const char *p = text; *p != '\0';) {
        size_t n = strcspn(p, ":,"), i = 0;
        char name[64];
        normalize(name, p, n);
        while (i < PH_COUNT_OF(known) && strcmp(known[i].name, name) != 0)
            i++;
        if (i == PH_COUNT_OF(known))
            return PH_E_CONFIG;
        append(out, known[i].priority[0]);
        append(out, known[i].priority[1]);
        p += n;
        if (*p != '\0' && *++p == '\0')
            return PH_E_CONFIG; /* nothing after the separator */
    }
    return out[0] != '\0' ? 0 : PH_E_CONFIG;
}

bool ph_tls_ciphers_are_valid(const char *text)
{
    char out[PH_TLS_CIPHERS_LEN];
    return ph_tls_ciphers_parse(out, text) == 0;
}
