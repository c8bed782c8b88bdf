// The arguments of every_hook.c: where they lie, and how each is turned into
// everything that it should not be.
#ifndef EVERY_HOOK_ARGUMENTS_H
#define EVERY_HOOK_ARGUMENTS_H

#include "check.h"
#include <limits.h>
#include <stdarg.h>

enum { PAGE = 4096, AREAS = 12, KNOBS = 24, FILLED = 0xa5 };

// --- where arguments lie ---------------------------------------------------

// A hole, two pages, a hole, a page that cannot be written, a hole.
struct area {
    char *start, *end, *fixed;
};

static struct area areas[AREAS];
static int areas_used;

static void prepare_areas(void)
{
    for (int i = 0; i < AREAS; i++) {
        char *m = mmap(NULL, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(m == MAP_FAILED ? -1 : 0);
        must(mprotect(m, PAGE, PROT_NONE));
        must(mprotect(m + 3 * PAGE, PAGE, PROT_NONE));
        must(mprotect(m + 4 * PAGE, PAGE, PROT_READ));
        must(mprotect(m + 5 * PAGE, PAGE, PROT_NONE));
        areas[i] = (struct area){m + PAGE, m + 3 * PAGE, m + 4 * PAGE};
    }
}

// --- what can be turned ----------------------------------------------------

// Each argument, or field of one, is a knob. Setting 0 is as it should be. A
// knob is turned alone, and together with the knobs that it goes with.
static struct knob {
    int settings, pairs;
} knobs[KNOBS];
static int chosen[KNOBS], knob_count;
static char what[200];

enum { ALONE = 0, WITH_PREVIOUS = 1, WITH_ONE_BEFORE = 2 };

static int turn(int settings, int pairs)
{
    int k = knob_count++;
    must(k < KNOBS ? 0 : -1);
    knobs[k] = (struct knob){settings, pairs};
    return chosen[k];
}

__attribute__((format(printf, 1, 2))) static void mention(const char *format, ...)
{
    size_t n = strlen(what);
    va_list list;
    va_start(list, format);
    if (n > 0)
        n += (size_t)snprintf(what + n, sizeof what - n, ", ");
    vsnprintf(what + n, sizeof what - n, format, list);
    va_end(list);
}

enum place {
    GOOD, NIL, ONE, KERNEL, NOWHERE, UNMAPPED, BEHIND, LAST, CUT, ODD, ACROSS, READ_ONLY,
    PLACES, LONG = PLACES,
};
static const char *const places[] = {
    "", "null", "1", "the kernel's", "no address", "unmapped", "just behind", "last of the page",
    "cut by a hole", "odd", "across pages", "read only", "very long",
};

// Where the call wrote to, and how much.
static struct told {
    char *from, *end;
} told[4];
static int tellings;
static uint32_t *told_length;

static long lie(const char *name, const void *good, size_t size, int settings, int filled)
{
    int setting = turn(settings, ALONE);
    must(areas_used < AREAS ? 0 : -1);
    struct area *a = &areas[areas_used++];
    char *at = a->start + 64;
    size_t there = size;
    memset(a->start, filled, 2 * PAGE);
    if (setting != GOOD)
        mention("%s %s", name, places[setting]);
    switch (setting) {
    case NIL: return 0;
    case ONE: return 1;
    case KERNEL: return -PAGE;
    case NOWHERE: return 1L << 62;
    case UNMAPPED: return (long)(a->start - PAGE + 100);
    case BEHIND: return (long)a->end;
    case LAST: at = a->end - size; break;
    case CUT:
        there = size / 2;
        at = a->end - there;
        break;
    case ODD: at = a->start + 1; break;
    case ACROSS: at = a->start + PAGE - size / 2; break;
    case READ_ONLY:
        must(mprotect(a->fixed, PAGE, PROT_READ | PROT_WRITE));
        if (good)
            memcpy(a->fixed, good, size);
        must(mprotect(a->fixed, PAGE, PROT_READ));
        return (long)a->fixed;
    case LONG:
        memset(a->start, 'x', 2 * PAGE - 1);
        a->end[-1] = 0;
        return (long)a->start;
    }
    if (good)
        memcpy(at, good, there);
    if (filled)
        told[tellings++] = (struct told){at, a->end};
    return (long)at;
}

// Something that the call reads.
static long in(const char *name, const void *good, size_t size)
{
    return lie(name, good, size, PLACES, 0);
}

static long string(const char *name, const char *good)
{
    return lie(name, good, strlen(good) + 1, PLACES + 1, 0);
}

// A list of one string.
static long strings(const char *name, const char *good)
{
    char element[32];
    snprintf(element, sizeof element, "%s[0]", name);
    long list[2] = {string(element, good), 0};
    return in(name, list, sizeof list);
}

// Something that the call writes.
static long out(const char *name, size_t size) { return lie(name, NULL, size, PLACES, FILLED); }

static long of(const char *name, long good, const long *others, int count, int pairs)
{
    int setting = turn(count + 1, pairs);
    if (setting == 0)
        return good;
    mention("%s %ld", name, others[setting - 1]);
    return others[setting - 1];
}

static long number(const char *name, long good)
{
    static const long others[] = {-1, 0, INT_MAX, INT_MIN, 0x7000};
    return of(name, good, others, COUNT(others), ALONE);
}

// The length of what the knob before it points to.
static long length(size_t good)
{
    long g = (long)good, others[] = {0, 1, 2, g - 1, g + 1, 110, 128, 129, 3 * PAGE, -1, INT_MIN};
    return of("length", g, others, COUNT(others), WITH_PREVIOUS);
}

// A pointer to the length of what the knob before it points to.
static long length_at(uint32_t good)
{
    static const long others[] = {0, 1, 2, 8, 15, 17, 110, 128, 3 * PAGE, -1, INT_MIN};
    uint32_t value = (uint32_t)of("*length", good, others, COUNT(others), WITH_PREVIOUS);
    long at = in("length", &value, sizeof value);
    knobs[knob_count - 1].pairs = WITH_PREVIOUS;
    int setting = chosen[knob_count - 1];
    if (setting == GOOD || setting == LAST || setting == ODD || setting == ACROSS)
        told_length = (uint32_t *)at;
    return at;
}

static int pipe_end, path_only, poller;

static long descriptor(int (*make)(void))
{
    static const int others[] = {-1, -100, 999, 1000000, INT_MAX, INT_MIN};
    static const char *const kinds[] = {"a pipe", "O_PATH", "an epoll instance"};
    int kind_of[] = {pipe_end, path_only, poller};
    int setting = turn(1 + COUNT(others) + COUNT(kinds), ALONE) - 1;
    if (setting < 0)
        return make();
    if (setting < (int)COUNT(others)) {
        mention("descriptor %d", others[setting]);
        return others[setting];
    }
    setting -= COUNT(others);
    mention("descriptor is %s", kinds[setting]);
    return must(dup(kind_of[setting]));
}

#endif
