#include "data/prepare/document_text.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

const InputFile kPlain = {"a.txt", TextFormat::kPlain, Compression::kNone};
const InputFile kJson = {"a.jsonl.zst", TextFormat::kJsonLines, Compression::kZstd};

TEST(DocumentTextTest, TakesPlainTextAsItIs) {
  EXPECT_EQ(DocumentText({" é\n{}", 1, 0}, kPlain, "text").value(), " é\n{}");
}

TEST(DocumentTextTest, TakesTheFieldOfAJsonLine) {
  EXPECT_EQ(DocumentText({R"({"id": 1, "text": "a\n\u00e9\ud83d\ude00"})", 1, 0}, kJson, "text").value(),
            "a\né😀");
  EXPECT_EQ(DocumentText({"{\"body\": \"\"}\r\n", 1, 0}, kJson, "body").value(), "");
}

void ExpectRefused(const std::string& line, absl::string_view message) {
  const absl::Status status = DocumentText({line, 7, 100}, kJson, "text").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << line;
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(message)));
}

TEST(DocumentTextTest, NamesFileAndLineOfABadLine) {
  ExpectRefused("{\"text\": \"a\"", "a.jsonl.zst:7: not valid JSON: parse error");
  ExpectRefused("{\"text\": \"a\"} {}", "a.jsonl.zst:7: not valid JSON");
  ExpectRefused("{\"text\": \"\\ud800\"}", "a.jsonl.zst:7: not valid JSON");
  ExpectRefused("[\"text\"]", "a.jsonl.zst:7: a JSON object is expected, not array");
  ExpectRefused("{\"id\": 1, \"body\": 2}",
                "a.jsonl.zst:7: no field \"text\"; the object has \"body\", \"id\"");
  ExpectRefused("{}", "the object has none");
  ExpectRefused("{\"text\": null}", "a.jsonl.zst:7: field \"text\" is of type null, not a string");
  ExpectRefused("{\"text\": \"\xFF\"}", "a.jsonl.zst: byte 110 of the decompressed text (0xFF) is not UTF-8");
}

TEST(DocumentTextTest, NamesFileAndByteOfWhatIsNotUtf8) {
  const absl::Status status = DocumentText({"caf\xE9", 3, 1000}, kPlain, "text").status();
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a.txt: byte 1003 (0xE9) is not UTF-8"));
}

}  // namespace
}  // namespace jevons
