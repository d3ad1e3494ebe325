/* SPDX-License-Identifier: Apache-2.0
 *
 * The object store over a local directory; names and URLs; lists and errors in XML that is not what it should be.
 */
#include "tests/unit/base/unit.h"

#include "transport/vault/object/object.h"
#include "transport/vault/object/objectlist.h"

static struct object_store *open_at(void **state)
{
    struct object_store *s = NULL;
    struct err err = ERR_INIT;
    char url[4200];

    snprintf(url, sizeof(url), "file://%s/objects", (const char *)*state);
    struct object_conf conf = {.url = url};
    if (object_open(&conf, &s, &err) < 0)
        fail_msg("%s", err.text);
    return s;
}

static void put_new_is_refused_when_the_name_is_taken(void **state)
{
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    AUTO_BUF struct buf got = BUF_INIT(100);
    struct err err = ERR_INIT;

    assert_int_equal(object_put_new(s, "m/1.seg", "first", 5, &err), 1);
    assert_int_equal(object_put_new(s, "m/1.seg", "second", 6, &err), 0);
    assert_int_equal(object_get(s, "m/1.seg", 0, OBJECT_WHOLE, &got, &err), 1);
    assert_string_equal(buf_str(&got, &err), "first");
    assert_int_equal(object_put(s, "m/1.seg", "third", 5, &err), 0);
    buf_clear(&got);
    assert_int_equal(object_get(s, "m/1.seg", 0, OBJECT_WHOLE, &got, &err), 1);
    assert_string_equal(buf_str(&got, &err), "third");
}

static void ranges_end_at_the_end_and_absence_is_a_result(void **state)
{
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    AUTO_BUF struct buf got = BUF_INIT(8);
    struct err err = ERR_INIT;
    uint64_t bytes = 0;

    assert_int_equal(object_put(s, "digits", "0123456789", 10, &err), 0);
    assert_int_equal(object_get(s, "digits", 7, 100, &got, &err), 1);
    assert_string_equal(buf_str(&got, &err), "789");
    assert_int_equal(object_get(s, "digits", 10, 1, &got, &err), 1);
    assert_int_equal(got.len, 3);
    assert_int_equal(object_get(s, "digits", 0, OBJECT_WHOLE, &got, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    assert_int_equal(object_get(s, "digits", 0, 0, &got, &err), -1);
    assert_int_equal(object_get(s, "other", 0, 5, &got, &err), 0);
    assert_int_equal(object_size(s, "digits", &bytes, &err), 1);
    assert_int_equal(bytes, 10);
    assert_int_equal(object_size(s, "digits/none", &bytes, &err), 0);
    assert_int_equal(object_delete(s, "digits", &err), 0);
    assert_int_equal(object_delete(s, "digits", &err), 0);
    assert_int_equal(object_size(s, "digits", &bytes, &err), 0);
}

static void lists_are_sorted_by_name_in_pages(void **state)
{
    static const char *const names[] = {"a/2", "a-b", "a/1", "b", "a/10"};
    static const char *const sorted[] = {"a/1", "a/10", "a/2"};
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    struct err err = ERR_INIT;
    AUTO_FREE char *after = NULL;
    size_t seen = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(object_put(s, names[i], "x", 1, &err), 0);
    do {
        struct object_page page = {0};

        assert_int_equal(object_list(s, "a/", after, 2, &page, &err), 0);
        assert_true(page.count <= 2);
        for (size_t i = 0; i < page.count; i++) {
            assert_true(seen < ARRAY_LEN(sorted));
            assert_string_equal(page.entries[i].name, sorted[seen++]);
        }
        free(after);
        after = TAKE_PTR(page.next);
        object_page_done(&page);
    } while (after != NULL);
    assert_int_equal(seen, ARRAY_LEN(sorted));
}

static void probe_finds_conditions_honoured_and_leaves_nothing(void **state)
{
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    struct object_page page = {0};
    struct err err = ERR_INIT;

    assert_int_equal(object_probe(s, &err), 0);
    assert_true(object_features(s) & OBJECT_CONDITION_HONOURED);
    assert_int_equal(object_list(s, "leeward", NULL, 10, &page, &err), 0);
    assert_int_equal(page.count, 0);
    object_page_done(&page);
}

static void names_cannot_leave_the_store(void **state)
{
    static const char *const wrong[] = {
        "", "/", "/a", "a/", "a//b", "..", "a/../b", ".put-x", "a/.b", "a b", "a\nb", "a?b", "%2e"};
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    struct err err = ERR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_false(object_name_is_valid(wrong[i]));
        assert_int_equal(object_put(s, wrong[i], "x", 1, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
    assert_true(object_name_is_valid("machines/0f/main/0001.seg"));
}

static void urls_and_secrets_that_do_not_fit_are_refused_with_a_correction(void **state)
{
    static const struct object_conf wrong[] = {
        {.url = "ftp://x/y"},
        {.url = "file://relative"},
        {.url = "azure://account"},
        {.url = "azure://account/../box", .secret = "a2V5"},
        {.url = "azure://account/box"},
        {.url = "azure://account/box", .secret = "a2V5", .sas = "sig=1"},
        {.url = "azure://account/box", .sas = "sv=1"},
        {.url = "azure://account/box", .sas = "sig=1", .endpoint = "http://storage.example/account"},
        {.url = "azure://account/box", .secret = "a2V5", .endpoint = "gopher://x"},
        {.url = "s3://bucket"},
        {.url = "s3://bucket", .key_id = "id\r\nx: y", .secret = "s"},
        {.url = "s3://bucket/a/../b", .key_id = "i", .secret = "s"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct object_store *s = NULL;
        struct err err = ERR_INIT;

        assert_int_equal(object_open(&wrong[i], &s, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(err.correction[0] != '\0');
        assert_null(s);
    }
}

/* ---- XML ---- */

static const struct list_words words = {
    .root = "ListBucketResult", .entry = "Contents", .name = "Key", .size = "Size", .next = "NextContinuationToken"};

static int parse(const char *xml, unsigned limit, struct object_page *page)
{
    struct err err = ERR_INIT;
    int rc = objectlist_parse(xml, strlen(xml), &words, limit, page, &err);

    if (rc < 0)
        assert_int_equal(err.code, ERR_CORRUPT);
    return rc;
}

static void list_of_s3_is_understood(void **state)
{
    struct object_page page = {0};

    (void)state;
    assert_int_equal(
        parse("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
              "<Contents><Key>a&amp;b</Key><Size>12</Size></Contents><NextContinuationToken>t=</NextContinuationToken>"
              "</ListBucketResult>",
            5, &page),
        0);
    assert_int_equal(page.count, 1);
    assert_string_equal(page.entries[0].name, "a&b");
    assert_int_equal(page.entries[0].bytes, 12);
    assert_string_equal(page.next, "t=");
    object_page_done(&page);
}

static void lists_that_are_none_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        "x",
        "<html/>",
        "<ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>99999999999999999999999</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents><Contents/></ListBucketResult>",
        "<!DOCTYPE l [<!ENTITY e 'x'>]><ListBucketResult>&e;</ListBucketResult>",
        "<!DOCTYPE l SYSTEM \"file:///etc/passwd\"><ListBucketResult/>",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct object_page page = {0};

        assert_int_equal(parse(wrong[i], 1, &page), -1);
        object_page_done(&page);
    }
}

static void error_documents_give_code_and_first_line(void **state)
{
    static const char xml[] = "<Error><Code>NoSuchBucket</Code><Message>It is gone.\nRequestId: 1</Message></Error>";
    char code[64], message[64];

    (void)state;
    objectlist_error(xml, strlen(xml), code, sizeof(code), message, sizeof(message));
    assert_string_equal(code, "NoSuchBucket");
    assert_string_equal(message, "It is gone.");
    objectlist_error("<html>", 6, code, sizeof(code), message, sizeof(message));
    assert_string_equal(code, "");
}

static int take_name(void *arg, const struct object_entry *entry, struct err *err)
{
    struct buf *names = arg;
    return buf_printf(names, err, "%s ", entry->name);
}

static void a_walk_shows_every_page(void **state)
{
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    AUTO_BUF struct buf names = BUF_INIT(1 << 20);
    struct err err = ERR_INIT;
    char name[32];

    for (unsigned i = 0; i < OBJECT_PAGE_MAX + 5; i++) {
        snprintf(name, sizeof(name), "n/%05u", i);
        assert_int_equal(object_put(s, name, "", 0, &err), 0);
    }
    assert_int_equal(object_walk(s, "n/", take_name, &names, &err), 0);
    assert_int_equal(names.len, (OBJECT_PAGE_MAX + 5) * strlen("n/00000 "));
}

static void a_large_file_is_put_whole_and_once(void **state)
{
    struct object_store *s AUTO_OF(object_store) = open_at(state);
    AUTO_BUF struct buf data = BUF_INIT(32 << 20), got = BUF_INIT(32 << 20);
    struct err err = ERR_INIT;
    FILE *f = tmpfile();

    assert_non_null(f);
    for (uint32_t i = 0; data.len < 17u << 20; i++)
        assert_int_equal(buf_append(&data, &i, sizeof(i), &err), 0);
    assert_int_equal(fwrite(data.data, 1, data.len, f), data.len);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(object_put_file(s, "large", fileno(f), 5, data.len - 5, &err), 1);
    assert_int_equal(object_put_file(s, "large", fileno(f), 0, data.len, &err), 0);
    assert_int_equal(object_put_file(s, "cut", fileno(f), 0, data.len + 1, &err), -1);
    assert_int_equal(object_get(s, "large", 0, OBJECT_WHOLE, &got, &err), 1);
    assert_int_equal(got.len, data.len - 5);
    assert_memory_equal(got.data, data.data + 5, got.len);
    assert_int_equal(object_size(s, "cut", &(uint64_t){0}, &err), 0);
    assert_int_equal(fclose(f), 0);
}

static int take_part(void *arg, const char *const *texts, struct err *err)
{
    struct buf *out = arg;
    return buf_printf(out, err, "%s=%s;", texts[0] ? texts[0] : "none", texts[1] ? texts[1] : "none");
}

static void rows_have_the_texts_that_are_there(void **state)
{
    static const char parts[] =
        "<ListPartsResult><Part><ETag>&quot;a&quot;</ETag><PartNumber>1</PartNumber></Part><Other/>"
        "<Part><PartNumber>2</PartNumber></Part><Marker>7</Marker></ListPartsResult>";
    static const char *const fields[] = {"PartNumber", "ETag", NULL};
    AUTO_BUF struct buf out = BUF_INIT(100);
    struct err err = ERR_INIT;
    char text[8];

    (void)state;
    assert_int_equal(
        objectlist_rows(parts, strlen(parts), "ListPartsResult", "Part", fields, take_part, &out, &err), 0);
    assert_string_equal(buf_str(&out, &err), "1=\"a\";2=none;");
    assert_int_equal(objectlist_rows(parts, strlen(parts), "Other", "Part", fields, take_part, &out, &err), -1);
    assert_int_equal(objectlist_text(parts, strlen(parts), "ListPartsResult", "Marker", text, sizeof(text)), 0);
    assert_string_equal(text, "7");
    assert_int_equal(objectlist_text(parts, strlen(parts), "ListPartsResult", "Marker", text, 1), -1);
    assert_int_equal(objectlist_text(parts, strlen(parts), "ListPartsResult", "None", text, sizeof(text)), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(put_new_is_refused_when_the_name_is_taken, unit_temp_new, unit_temp_done),
        cmocka_unit_test_setup_teardown(ranges_end_at_the_end_and_absence_is_a_result, unit_temp_new, unit_temp_done),
        cmocka_unit_test_setup_teardown(lists_are_sorted_by_name_in_pages, unit_temp_new, unit_temp_done),
        cmocka_unit_test_setup_teardown(
            probe_finds_conditions_honoured_and_leaves_nothing, unit_temp_new, unit_temp_done),
        cmocka_unit_test_setup_teardown(names_cannot_leave_the_store, unit_temp_new, unit_temp_done),
        cmocka_unit_test(urls_and_secrets_that_do_not_fit_are_refused_with_a_correction),
        cmocka_unit_test(list_of_s3_is_understood),
        cmocka_unit_test(lists_that_are_none_are_refused),
        cmocka_unit_test_setup_teardown(a_walk_shows_every_page, unit_temp_new, unit_temp_done),
        cmocka_unit_test_setup_teardown(a_large_file_is_put_whole_and_once, unit_temp_new, unit_temp_done),
        cmocka_unit_test(rows_have_the_texts_that_are_there),
        cmocka_unit_test(error_documents_give_code_and_first_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
