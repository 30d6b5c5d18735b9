#include "data/prepare/input_files.h"

#include "absl/strings/ascii.h"
#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/gzip.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(InputFilesTest, KnowsTheFormatByTheNameAndTheCompressionByTheContents) {
  const TempFolder folder;
  const std::string text = "some text\n";
  for (const char* name : {"a.txt", "A.TXT", "b.jsonl", "b.json", "b.ndjson", "b.jl", "b.JSONL"}) {
    const auto file = InputFileFor(folder.Write(name, text));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->format, absl::AsciiStrToLower(name) == "a.txt" ? TextFormat::kPlain : TextFormat::kJsonLines) << name;
    EXPECT_EQ(file->compression, Compression::kNone);
  }
  EXPECT_EQ(InputFileFor(folder.Write("a.txt.zst", ZstdCompress(text)))->compression, Compression::kZstd);
  EXPECT_EQ(InputFileFor(folder.Write("a.txt.zstd", ZstdCompress(text)))->compression, Compression::kZstd);
  EXPECT_EQ(InputFileFor(folder.Write("a.txt.gz", GzipCompress(text)))->compression, Compression::kGzip);
  EXPECT_EQ(InputFileFor(folder.Write("wrong.json.zst", GzipCompress(text)))->compression, Compression::kGzip);
  EXPECT_EQ(InputFileFor(folder.Write("unnamed.jsonl", ZstdCompress(text)))->compression, Compression::kZstd);
  EXPECT_EQ(InputFileFor(folder.Write("skippable.jsonl", std::string("\x5A\x2A\x4D\x18\0\0\0\0", 8)))->compression,
            Compression::kZstd);
}

TEST(InputFilesTest, RefusesOtherNames) {
  for (const std::string path : {"a", "a.zst", "a.parquet", "a.txt.bz2", "-", "", "a.csv.gz"}) {
    const absl::Status status = InputFileFor(path).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kUsage);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("unknown kind of input; the name must end in .txt, or .jsonl, .json, .ndjson or .jl"));
  }
}

TEST(InputFilesTest, RefusesWhatIsNoText) {
  const TempFolder folder;
  for (const auto& [name, contents, message] :
       {std::tuple("a.jsonl", std::string("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
                   "is a Git LFS pointer"),
        std::tuple("a.jsonl.gz", std::string("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
                   "is a Git LFS pointer"),
        std::tuple("._a.jsonl", std::string("{\"text\": \"a\"}\n"), "AppleDouble"),
        std::tuple("a.txt", std::string("\xFF\xFEh\0i\0", 6), "UTF-16"),
        std::tuple("a.json", std::string("PAR1\x15\x04"), "Parquet"),
        std::tuple("a.jsonl.zst", std::string("{\"text\": \"a\"}\n"),
                   "is neither gzip nor zstd, though its name says that it is compressed"),
        std::tuple("a.jsonl.gz", std::string(), "is empty, though its name says that it is compressed")}) {
    const absl::Status status = InputFileFor(folder.Write(name, contents)).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(InputFilesTest, AFolderAndAPatternStandForTheirFiles) {
  const TempFolder folder;
  for (const char* name : {"in/b", "in/.git", "in/.hidden"}) fs::create_directories(folder / name);
  for (const char* name :
       {"in/b/2.jsonl", "in/a.txt", "in/b/10.jsonl.gz", "in/README.md", "in/._a.txt", "in/.git/x.txt", "in/.hidden.txt"}) {
    folder.Write(name, "text");
  }
  const std::vector<std::string> all = {folder / "in/a.txt", folder / "in/b/10.jsonl.gz", folder / "in/b/2.jsonl"};
  EXPECT_EQ(ExpandInputs(std::vector<std::string>{folder / "in"}).value(), all);
  EXPECT_EQ(ExpandInputs(std::vector<std::string>{folder / "i?"}).value(), all);
  EXPECT_THAT(ExpandInputs(std::vector<std::string>{folder / "in/b/*.jsonl", folder / "in/a.txt", "missing.txt"}).value(),
              ElementsAre(folder / "in/b/2.jsonl", folder / "in/a.txt", "missing.txt"));
  folder.Write("odd[1].txt", "text");  // a file of that very name comes before the pattern
  EXPECT_THAT(ExpandInputs(std::vector<std::string>{folder / "odd[1].txt"}).value(), ElementsAre(folder / "odd[1].txt"));
  fs::create_directories(folder / "empty");
  for (const auto& [input, message] :
       {std::pair("empty", "the folder has no file whose name ends in .txt"), std::pair("none*", "no file has such a name")}) {
    const absl::Status status = ExpandInputs(std::vector<std::string>{folder / input}).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << "missing data";
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

}  // namespace
}  // namespace jevons
