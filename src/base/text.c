/*
 * text.c - letters and blanks of protocols and options.
 *
 * ASCII alone, whatever the locale: functions of <ctype.h> follow that of the program around us, in
 * some of which I has another lower case (Turkish: a dotless one, or none at all), and a field name
 * or an option would not be the one that was meant.
 */
#include "base.h"

bool ph_text_same(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return false;
    for (size_t i = 0; i < a_len; i++) {
        if (ph_lower(a[i]) != ph_lower(b[i]))
            return false;
    }
    return true;
}

bool ph_text_equal(const char *p, size_t n, const char *text)
{
    return ph_text_same(p, n, text, strlen(text));
}

void ph_text_trim(const char **p, size_t *n)
{
    while (*n > 0 && (**p == ' ' || **p == '\t')) {
        (*p)++;
        (*n)--;
    }
    while (*n > 0 && ((*p)[*n - 1] == ' ' || (*p)[*n - 1] == '\t'))
        (*n)--;
}
