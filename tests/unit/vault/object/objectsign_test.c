/* SPDX-License-Identifier: Apache-2.0
 *
 * Signing against what is published: the AWS SigV4 test suite, the examples of "Signature calculations: Authorization header"
 * of the S3 API reference, and the string-to-sign examples of Azure's "Authorize with Shared Key".
 */
#include "tests/unit/base/unit.h"

#include "transport/base/mem.h"
#include "transport/vault/object/objectsign.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* ---- the test suite ---- */

static const struct sign_v4_key suite_key = {.id = "AKIDEXAMPLE",
    .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "service"};

static void assert_v4(const struct sign_request *r, const struct sign_v4_key *key, const char *time,
    const char *body_hash, const char *expected)
{
    AUTO_BUF struct buf got = BUF_INIT(4096);
    struct err err = ERR_INIT;

    assert_int_equal(objectsign_v4(r, key, time, body_hash, &got, &err), 0);
    assert_string_equal(buf_str(&got, &err), expected);
}

static void assert_suite(const char *method, const struct sign_pair *query, size_t count, const char *signature)
{
    struct sign_request r = {.method = method,
        .path = "/",
        .headers = {{"x-amz-date", "20150830T123600Z"}, {"host", "example.amazonaws.com"}},
        .headers_count = 2};
    char expected[256];

    for (size_t i = 0; i < count; i++)
        r.query[r.query_count++] = query[i];
    snprintf(expected, sizeof(expected),
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=%s",
        signature);
    assert_v4(&r, &suite_key, "20150830T123600Z", EMPTY, expected);
}

static void suite_get_vanilla(void **state)
{
    (void)state;
    assert_suite("GET", NULL, 0, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

static void suite_post_vanilla(void **state)
{
    (void)state;
    assert_suite("POST", NULL, 0, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
}

static void suite_get_vanilla_query_order_key_case(void **state)
{
    struct sign_pair query[] = {{"Param2", "value2"}, {"Param1", "value1"}};

    (void)state;
    assert_suite("GET", query, 2, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}

/* ---- S3's examples ---- */

static const struct sign_v4_key s3_key = {.id = "AKIAIOSFODNN7EXAMPLE",
    .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "s3"};

#define S3_HOST "examplebucket.s3.amazonaws.com"
#define S3_TIME "20130524T000000Z"
#define S3_BEGIN "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders="

static void s3_get_object_with_range(void **state)
{
    struct sign_request r = {.method = "GET",
        .path = "/test.txt",
        .headers = {{"host", S3_HOST}, {"range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY},
            {"x-amz-date", S3_TIME}},
        .headers_count = 4};

    (void)state;
    assert_v4(&r, &s3_key, S3_TIME, EMPTY,
        S3_BEGIN "host;range;x-amz-content-sha256;x-amz-date, "
                 "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void s3_put_object(void **state)
{
    static const char body[] = "Welcome to Amazon S3.";
    char hash[OBJECTSIGN_SHA256_HEX];
    struct err err = ERR_INIT;

    (void)state;
    assert_int_equal(objectsign_sha256(body, strlen(body), hash, &err), 0);
    struct sign_request r = {.method = "PUT",
        .path = "/test%24file.text",
        .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"host", S3_HOST}, {"x-amz-content-sha256", hash},
            {"x-amz-date", S3_TIME}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
        .headers_count = 5};
    assert_v4(&r, &s3_key, S3_TIME, hash,
        S3_BEGIN "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
                 "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void s3_list_objects(void **state)
{
    struct sign_request r = {.method = "GET",
        .path = "/",
        .query = {{"prefix", "J"}, {"max-keys", "2"}},
        .query_count = 2,
        .headers = {{"host", S3_HOST}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", S3_TIME}},
        .headers_count = 3};

    (void)state;
    assert_v4(&r, &s3_key, S3_TIME, EMPTY,
        S3_BEGIN "host;x-amz-content-sha256;x-amz-date, "
                 "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void s3_parameter_without_value(void **state)
{
    struct sign_request r = {.method = "GET",
        .path = "/",
        .query = {{"lifecycle", ""}},
        .query_count = 1,
        .headers = {{"host", S3_HOST}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", S3_TIME}},
        .headers_count = 3};

    (void)state;
    assert_v4(&r, &s3_key, S3_TIME, EMPTY,
        S3_BEGIN "host;x-amz-content-sha256;x-amz-date, "
                 "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

/* ---- Azure's examples ---- */

static void assert_azure_text(const struct sign_request *r, const char *account, const char *expected)
{
    AUTO_BUF struct buf got = BUF_INIT(4096);
    struct err err = ERR_INIT;

    assert_int_equal(objectsign_azure_text(r, account, &got, &err), 0);
    assert_string_equal(buf_str(&got, &err), expected);
}

static void azure_container_metadata(void **state)
{
    struct sign_request r = {.method = "GET",
        .path = "/mycontainer",
        .query = {{"restype", "container"}, {"comp", "metadata"}, {"timeout", "20"}},
        .query_count = 3,
        .headers = {{"x-ms-version", "2015-02-21"}, {"x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"},
            {"content-length", "0"}},
        .headers_count = 3};

    (void)state;
    assert_azure_text(&r, "myaccount",
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20");
}

static void azure_standard_headers_are_in_their_places(void **state)
{
    struct sign_request r = {.method = "PUT",
        .path = "/devstoreaccount1/box/a.seg",
        .headers = {{"host", "127.0.0.1:10000"}, {"content-length", "11"}, {"content-type", "application/octet-stream"},
            {"x-ms-blob-type", "BlockBlob"}, {"if-none-match", "*"}, {"x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"}},
        .headers_count = 6};

    (void)state;
    assert_azure_text(&r, "devstoreaccount1",
        "PUT\n\n\n11\n\napplication/octet-stream\n\n\n\n*\n\n\nx-ms-blob-type:BlockBlob\n"
        "x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n/devstoreaccount1/devstoreaccount1/box/a.seg");
}

static void azure_key_must_be_base64(void **state)
{
    static const char *const wrong[] = {"", "abc", "not base64!!", "a==="};
    struct sign_request r = {.method = "GET", .path = "/c"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO_BUF struct buf got = BUF_INIT(4096);
        struct err err = ERR_INIT;

        assert_int_equal(objectsign_azure(&r, "a", wrong[i], &got, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_true(err.correction[0] != '\0');
    }
}

static void times_are_as_the_services_write_them(void **state)
{
    char v4[17], http[30];

    (void)state;
    objectsign_v4_time(1440938160000000, v4);
    objectsign_http_time(1435361952000000, http);
    assert_string_equal(v4, "20150830T123600Z");
    assert_string_equal(http, "Fri, 26 Jun 2015 23:39:12 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suite_get_vanilla),
        cmocka_unit_test(suite_post_vanilla),
        cmocka_unit_test(suite_get_vanilla_query_order_key_case),
        cmocka_unit_test(s3_get_object_with_range),
        cmocka_unit_test(s3_put_object),
        cmocka_unit_test(s3_list_objects),
        cmocka_unit_test(s3_parameter_without_value),
        cmocka_unit_test(azure_container_metadata),
        cmocka_unit_test(azure_standard_headers_are_in_their_places),
        cmocka_unit_test(azure_key_must_be_base64),
        cmocka_unit_test(times_are_as_the_services_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
