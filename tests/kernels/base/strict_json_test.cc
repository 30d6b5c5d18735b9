#include "kernels/base/strict_json.h"

#include "gmock/gmock.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(StrictJsonTest, RefusesWhatParsersReadInPart) {
  using std::string_literals::operator""s;
  const std::pair<std::string, const char*> cases[] = {
      {"{\"a\": 1}\0{\"b\": 2}"s, "a NUL character at byte 8"},
      {"{\"a\": 1}\0\0\0\0"s, "a NUL character at byte 8"},
      {"\0{}"s, "a NUL character at byte 0"},
      {"{\"a\": \"x\0y\"}"s, "a NUL character at byte 8"},
      {"{\"a\": 1, \"a\": 2}", "duplicate key \"a\""},
      {"{} {}", "not valid JSON: '{' at byte 3 does not belong there"},
      {"{\"a\": NaN}", "'N' at byte 6"},
      {"{\"a\": 1e999}", "a number that is too large"},
      {"{\"a\": \"\\ud83d\"}", "'\"' at byte 13"},
      {"{\"a\": \"\xFF\"}", "byte 7, 0xff, does not belong there"},
      {"{\"a\": 1", "it ends at byte 7 in the middle of a value"},
      {std::string(18, '[') + std::string(18, ']'), "nested deeper than 16"},
      {"", "it ends at byte 0"},
  };
  for (const auto& [text, message] : cases) {
    const absl::Status status = ParseStrictJson(text).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << text;
    EXPECT_THAT(std::string(status.message()), StartsWith("not valid JSON"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("json.exception"))) << "the library's words, not ours";
  }
}

TEST(StrictJsonTest, ReadsWhatIsJson) {
  EXPECT_EQ(ParseStrictJson("{\"a\": \"\\u0000\"}").value()["a"], std::string(1, '\0'));
  EXPECT_EQ(ParseStrictJson("\xEF\xBB\xBF[1]").value()[0], 1);
}

}  // namespace
}  // namespace jevons
