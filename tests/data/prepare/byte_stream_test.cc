#include "data/prepare/byte_stream.h"

#include <sys/stat.h>

#include "gmock/gmock.h"
#include "kernels/base/status.h"
#include "tests/data/prepare/gzip.h"
#include "tests/data/prepare/temp_folder.h"

namespace jevons {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> ReadAll(const std::string& path, Compression compression, size_t chunk) {
  JEVONS_ASSIGN_OR_RETURN(ByteStream stream, ByteStream::Open(path, compression));
  std::string all, buffer(chunk, '\0');
  while (true) {
    JEVONS_ASSIGN_OR_RETURN(const size_t n, stream.Read(buffer));
    all += buffer.substr(0, n);
    if (n < chunk) return all;
  }
}

std::string Text(int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += std::to_string(i * 7919 % 10007) + " ";
  return text;
}

TEST(ByteStreamTest, ReadsPlainAndCompressedAlike) {
  const TempFolder folder;
  for (const int size : {0, 1, 100, 100000}) {
    const std::string text = Text(size);
    const std::string plain = folder.Write("a", text), compressed = folder.Write("b", ZstdCompress(text)),
                      zipped = folder.Write("c", GzipCompress(text));
    for (const size_t chunk : {size_t{1000}, size_t{1} << 20}) {
      EXPECT_EQ(ReadAll(plain, Compression::kNone, chunk).value(), text);
      EXPECT_EQ(ReadAll(compressed, Compression::kZstd, chunk).value(), text);
      EXPECT_EQ(ReadAll(zipped, Compression::kGzip, chunk).value(), text);
    }
  }
}

TEST(ByteStreamTest, ReadsSeveralFramesAndAnEmptyFile) {
  const TempFolder folder;
  const std::string path = folder.Write("a", ZstdCompress("one ") + ZstdCompress("") + ZstdCompress("two"));
  EXPECT_EQ(ReadAll(path, Compression::kZstd, 5).value(), "one two");
  EXPECT_EQ(ReadAll(folder.Write("b", ""), Compression::kZstd, 5).value(), "");
}

TEST(ByteStreamTest, PassesOverSkippableFrames) {
  const TempFolder folder;
  const std::string skippable("\x50\x2A\x4D\x18\x03\0\0\0abc", 11);
  const std::string path = folder.Write("a", skippable + ZstdCompress("one ") + skippable + ZstdCompress("two") + skippable);
  EXPECT_EQ(ReadAll(path, Compression::kZstd, 5).value(), "one two");
}

// With windows up to the largest of the format's tool: the sizes that `zstd --long=28` to 31 ask for.
TEST(ByteStreamTest, ReadsFramesWithLargeWindows) {
  const TempFolder folder;
  for (const int log : {27, 28, 31}) {
    // A frame of one raw block, "abc": magic, descriptor, window (exponent - 10, mantissa 0), block header (last, raw, 3 bytes).
    const char window = static_cast<char>((log - 10) << 3);
    const std::string frame = std::string("\x28\xB5\x2F\xFD\0", 5) + window + std::string("\x19\0\0abc", 6);
    const auto read = ReadAll(folder.Write("a", frame), Compression::kZstd, 100);
    EXPECT_EQ(read.value_or(std::string(read.status().message())), "abc") << log;
  }
}

TEST(ByteStreamTest, ReadsMembersOfGzipAndThePaddingBehindThem) {
  const TempFolder folder;
  const std::string members = GzipCompress("one ") + GzipCompress("") + GzipCompress("two");
  EXPECT_EQ(ReadAll(folder.Write("a", members), Compression::kGzip, 5).value(), "one two");
  EXPECT_EQ(ReadAll(folder.Write("a", members + std::string(200000, '\0')), Compression::kGzip, 5).value(), "one two");
}

TEST(ByteStreamTest, RefusesEveryTruncationOfAMember) {
  const TempFolder folder;
  const std::string member = GzipCompress(Text(1000));
  for (size_t size = 1; size < member.size(); size += 1 + size / 10) {
    const auto read = ReadAll(folder.Write("a.gz", member.substr(0, size)), Compression::kGzip, 1 << 16);
    EXPECT_EQ(ExitCodeOf(read.status()), ExitCode::kIntegrity) << size;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("a.gz: ends inside a gzip member"));
  }
}

TEST(ByteStreamTest, RefusesDamagedGzip) {
  const TempFolder folder;
  std::string member = GzipCompress(Text(1000));
  const auto refused = [&](const std::string& bytes) {
    const auto read = ReadAll(folder.Write("a.gz", bytes), Compression::kGzip, 1 << 16);
    EXPECT_EQ(ExitCodeOf(read.status()), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("a.gz: damaged gzip data before byte"));
  };
  refused(member + "text behind it");
  member[member.size() - 6] ^= 1;  // the checksum
  refused(member);
}

TEST(ByteStreamTest, RefusesEveryTruncationOfAFrame) {
  const TempFolder folder;
  const std::string frame = ZstdCompress(Text(1000));
  for (size_t size = 1; size < frame.size(); size += 1 + size / 10) {
    const auto read = ReadAll(folder.Write("a.zst", frame.substr(0, size)), Compression::kZstd, 1 << 16);
    EXPECT_EQ(ExitCodeOf(read.status()), ExitCode::kIntegrity) << size;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr("a.zst: ends inside a zstd frame"));
  }
}

TEST(ByteStreamTest, RefusesWhatIsNoZstd) {
  const TempFolder folder;
  const auto read = ReadAll(folder.Write("a.zst", "just text, and not little"), Compression::kZstd, 100);
  EXPECT_EQ(ExitCodeOf(read.status()), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("a.zst: damaged zstd data"));
}

TEST(ByteStreamTest, RefusesWhatIsNoFile) {
  const TempFolder folder;
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const auto& [path, message] : {std::pair(folder.path(), "not a regular file"), std::pair(pipe, "not a regular file"),
                                      std::pair(folder / "missing", "cannot open: No such file or directory")}) {
    const absl::Status status = ByteStream::Open(path, Compression::kNone).status();
    EXPECT_EQ(ExitCodeOf(status), path == folder / "missing" ? ExitCode::kIntegrity : ExitCode::kUsage);
    EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": " + message));
  }
}

}  // namespace
}  // namespace jevons
