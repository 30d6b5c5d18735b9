#include "kernels/base/foreign_file.h"

#include "gmock/gmock.h"
#include "kernels/base/status.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ForeignFileTest, NamesWhatAFileIsAndTheRemedy) {
  using std::string_literals::operator""s;
  const std::pair<std::string, const char*> cases[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132735\n", "a Git LFS pointer"},
      {"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"s, "AppleDouble"},
      {"\x1F\x8B\x08", "gzip"},
      {"\x28\xB5\x2F\xFD\x04", "zstd"},
      {"\xFD\x37zXZ\0\0"s, "xz"},
      {"BZh91AY&SY\x10", "bzip2"},
      {"\x04\x22\x4D\x18", "lz4"},
      {"PK\x03\x04", "zip archive"},
      {"7z\xBC\xAF\x27\x1C", "7-zip"},
      {"PAR1\x15\x04", "Parquet"},
      {"ARROW1\0\0"s, "Arrow"},
      {"\x89HDF\r\n\x1A\n", "HDF5"},
      {"%PDF-1.7", "PDF"},
      {"\xFF\xFE{\0\"\0"s, "UTF-16; convert"},
      {"\xFE\xFF\0{"s, "UTF-16; convert"},
      {"\xFF\xFE\0\0{"s, "UTF-32; convert"},
      {"\0\0\xFE\xFF"s, "UTF-32; convert"},
  };
  for (const auto& [front, kind] : cases) {
    const absl::Status status = RefuseForeignFile("a/b.jsonl", front);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << kind;
    EXPECT_THAT(std::string(status.message()), StartsWith("a/b.jsonl: is "));
    EXPECT_THAT(std::string(status.message()), HasSubstr(kind));
    EXPECT_THAT(std::string(status.message()), HasSubstr(";")) << "the remedy";
  }
}

TEST(ForeignFileTest, KnowsAppleDoubleByItsName) {
  EXPECT_THAT(ForeignFileKind("x/._a.jsonl", "text"), HasSubstr("AppleDouble"));
  EXPECT_THAT(ForeignFileKind("._model.safetensors", ""), HasSubstr("AppleDouble"));
  EXPECT_EQ(ForeignFileKind("._folder/a.jsonl", "text"), "");
}

TEST(ForeignFileTest, LeavesTextAlone) {
  for (const char* front :
       {"", "{", "In the beginning", "BZh4x is a word", "PK", "PAR", "version https://example.org", "\xEF\xBB\xBFtext"}) {
    EXPECT_TRUE(RefuseForeignFile("a.txt", front).ok()) << front;
  }
}

}  // namespace
}  // namespace jevons
