#include "data/prepare/document_text.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

const InputFile kPlain = {"a.txt", TextFormat::kPlain, Compression::kNone};
const InputFile kJson = {"a.jsonl.zst", TextFormat::kJsonLines, Compression::kZstd};

TEST(DocumentTextTest, TakesPlainTextAsItIs) { EXPECT_EQ(DocumentText({" é\n{}", 1, 0}, kPlain, "text").value(), " é\n{}"); }

TEST(DocumentTextTest, TakesTheFieldOfAJsonLine) {
  EXPECT_EQ(DocumentText({R"({"id": 1, "text": "a\n\u00e9\ud83d\ude00"})", 1, 0}, kJson, "text").value(), "a\né😀");
  EXPECT_EQ(DocumentText({"{\"body\": \"\"}\r\n", 1, 0}, kJson, "body").value(), "");
}

void ExpectRefused(const std::string& line, absl::string_view message) {
  const absl::Status status = DocumentText({line, 7, 100}, kJson, "text").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << line;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
}

TEST(DocumentTextTest, NamesFileAndLineOfABadLine) {
  ExpectRefused("{\"text\": \"a\"", "a.jsonl.zst:7: not valid JSON: the line ends");
  ExpectRefused("{\"text\": null}", "a.jsonl.zst:7: field \"text\" is null, not a string");
}

TEST(DocumentTextTest, NamesFileAndLineOfWhatIsTooLong) {
  for (const auto& [input, message] :
       {std::pair(kPlain, "a.txt:7: a document of more than 64 MiB begins here; separate the documents"),
        std::pair(kJson, "a.jsonl.zst:7: a line of more than 64 MiB begins here; write each object")}) {
    const absl::Status status = DocumentText({"", 7, 100, true}, input, "text").status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(DocumentTextTest, KnowsPoliciesByTheirName) {
  EXPECT_EQ(BadLineFor("error").value(), BadLine::kError);
  EXPECT_EQ(BadLineFor("skip").value(), BadLine::kSkip);
  EXPECT_EQ(ExitCodeOf(BadLineFor("ignore").status()), ExitCode::kUsage);
}

TEST(DocumentTextTest, NamesFileAndByteOfWhatIsNotUtf8) {
  const absl::Status status = DocumentText({"a\ncaf\xE9", 3, 1000}, kPlain, "text").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.txt:4: byte 1005 (0xE9) is not UTF-8"));
}

}  // namespace
}  // namespace jevons
