#include "kernels/base/strict_json.h"

#include "gmock/gmock.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(StrictJsonTest, RefusesWhatParsersReadInPart) {
  using std::string_literals::operator""s;
  const std::pair<std::string, const char*> cases[] = {
      {"{\"a\": 1}\0{\"b\": 2}"s, "a NUL character at byte 8"},
      {"{\"a\": 1}\0\0\0\0"s, "a NUL character at byte 8"},
      {"\0{}"s, "a NUL character at byte 0"},
      {"{\"a\": \"x\0y\"}"s, "a NUL character at byte 8"},
      {"{\"a\": 1, \"a\": 2}", "duplicate key \"a\""},
      {"{} {}", "not valid JSON"},
      {"{\"a\": NaN}", "not valid JSON"},
      {"{\"a\": 1e999}", "not valid JSON"},
      {"{\"a\": \"\\ud83d\"}", "not valid JSON"},
      {std::string(18, '[') + std::string(18, ']'), "nested deeper than 16"},
      {"", "not valid JSON"},
  };
  for (const auto& [text, message] : cases) {
    const absl::Status status = ParseStrictJson(text).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << text;
    EXPECT_THAT(std::string(status.message()), StartsWith("not valid JSON"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(StrictJsonTest, ReadsWhatIsJson) {
  EXPECT_EQ(ParseStrictJson("{\"a\": \"\\u0000\"}").value()["a"], std::string(1, '\0'));
  EXPECT_EQ(ParseStrictJson("\xEF\xBB\xBF[1]").value()[0], 1);
}

}  // namespace
}  // namespace jevons
