#include "data/prepare/json_line.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "nlohmann/json.hpp"

namespace jevons {
namespace {

using ::testing::HasSubstr;

void ExpectRefused(absl::string_view line, absl::string_view message) {
  const absl::StatusOr<std::string> text = JsonLineField(line, "text");
  EXPECT_EQ(ExitCodeOf(text.status()), ExitCode::kIntegrity) << line;
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(std::string(message)));
}

TEST(JsonLineTest, TakesTheFieldWhateverStandsInOthers) {
  const std::string half_pair = "\"cut \\ud83d\"", invalid = "\"caf\xE9\"";
  for (const std::string& value :
       {std::string("NaN"), std::string("Infinity"), std::string("-Infinity"), std::string("1e400"), std::string("-0.5E-9"),
        std::string(400, '9'), half_pair, invalid, std::string("null"), std::string("true"), std::string("false"),
        std::string("[]"), std::string("{}"), std::string("[1, [NaN, {\"text\": \"not this\"}], {}]"),
        std::string("{\"a\":{\"text\":1},\"b\":[ ]}"), std::string(100000, '[') + std::string(100000, ']')}) {
    EXPECT_EQ(JsonLineField(absl::StrCat("{\"x\": ", value, ", \"text\" : \"a\"}"), "text").value_or("refused"), "a")
        << value.substr(0, 40);
    EXPECT_EQ(JsonLineField(absl::StrCat("{\"text\":\"a\",\"x\":", value, "} \r\n"), "text").value_or("refused"), "a")
        << value.substr(0, 40);
  }
}

TEST(JsonLineTest, ReadsStringsAsJsonDoes) {
  for (const char* text : {R"("")", R"("plain é 😀")", R"("\"\\\/\b\f\n\r\t")", R"("\u00e9\u0041\uFFFD\ud83d\uDE00x\u0000y")"}) {
    const std::string line = absl::StrCat("{\"text\": ", text, "}");
    EXPECT_EQ(JsonLineField(line, "text").value_or("refused"), nlohmann::json::parse(line)["text"].get<std::string>()) << text;
  }
  EXPECT_EQ(JsonLineField(R"({"te\u0078t": "a"})", "text").value_or("refused"), "a");
  EXPECT_EQ(JsonLineField("\xEF\xBB\xBF {\"text\": \"a\"}", "text").value_or("refused"), "a");
}

TEST(JsonLineTest, RefusesWhatIsNotOneObject) {
  using std::string_literals::operator""s;
  ExpectRefused("", "not valid JSON: the line ends where a value is expected");
  ExpectRefused("{\"text\": \"a\"", "not valid JSON: the line ends where ',' or '}' is expected");
  ExpectRefused("{\"text\": \"a", "the line ends where the end of a string is expected");
  ExpectRefused("{\n", "each object must stand on one line, as `jq -c .` writes it");
  ExpectRefused("  \"text\": \"a\",", "not valid JSON: byte 9: ':' where the end of the line is expected");
  ExpectRefused("{\"text\": \"a\"} {}", "byte 15: '{' where the end of the line is expected");
  ExpectRefused("{\"text\": \"rain\"}\0\0{\"text\": \"lost\"}"s,
                "byte 17: a NUL byte, as a crash leaves them, where the end of the line");
  ExpectRefused("{\"text\": \"a\0b\"}"s, "a NUL byte");
  ExpectRefused("{\"text\": \"a\tb\"}", "byte 12: byte 0x09 where a character of a string");
  ExpectRefused("[{\"text\": \"a\"}]",
                "a JSON object is expected, not an array; write an array's objects one a line, as `jq -c '.[]'` does");
  ExpectRefused("\"text\"", "a JSON object is expected, not a string");
  ExpectRefused("7", "a JSON object is expected, not a number");
  for (const char* value :
       {"nan",         "+1",      "01",       ".5",  "1.",   "1e",    "1e+",        "--1", "tru",     "'a'",  "\"\\x41\"",
        "\"\\u12g4\"", "{\"a\"}", "{\"a\":}", "{,}", "[1,]", "[1 2]", "{\"a\":1,}", "[}",  "Infinit", "\x7F", "undefined"}) {
    ExpectRefused(absl::StrCat("{\"x\": ", value, ", \"text\": \"a\"}"), "not valid JSON");
  }
  ExpectRefused(std::string(1000, '['), "not valid JSON");
}

TEST(JsonLineTest, NamesTheFieldThatIsRead) {
  ExpectRefused("{\"id\": 1, \"body\": 2}", "no field \"text\"; the object has \"id\", \"body\"");
  ExpectRefused("{}", "no field \"text\"; the object has none");
  std::string many = "{";
  for (int i = 0; i < 20; ++i) absl::StrAppend(&many, i == 0 ? "" : ",", "\"k", i, "\":0");
  ExpectRefused(many + "}", "\"k10\", \"k11\" and 8 more");
  ExpectRefused("{\"text\": null}", "field \"text\" is null, not a string");
  ExpectRefused("{\"text\": NaN}", "field \"text\" is a number, not a string");
  ExpectRefused("{\"text\": 1e999}", "field \"text\" is a number, not a string");
  ExpectRefused("{\"text\": [\"a\"]}", "field \"text\" is an array, not a string");
  ExpectRefused("{\"text\": \"a\", \"text\": \"b\"}", "field \"text\" is given twice");
  ExpectRefused("{\"text\": \"a\", \"te\\u0078t\": \"b\"}", "field \"text\" is given twice");
  ExpectRefused(R"({"text": "cut \ud83d"})", "field \"text\": \\ud83d is half of a surrogate pair");
  ExpectRefused(R"({"text": "cut \ude00\ud83d"})", "field \"text\": \\ude00 is half of a surrogate pair");
  ExpectRefused(R"({"text": "\ud83d\u0041"})", "field \"text\": \\ud83d is half of a surrogate pair");
  ExpectRefused("{\"text\": \"caf\xE9\"}", "field \"text\": byte 14 of the line (0xE9) is not UTF-8");
}

}  // namespace
}  // namespace jevons
