// Damaged checkpoints: every bit of the manifest, every bit of a small file, every length, and manifests that
// lie although their seal is right. All are refused with an integrity error that names the file; none
// crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>

#include "kernels/base/philox.h"
#include "parallel/comm/loopback.h"
#include "tests/support/memory_disk.h"
#include "tests/support/temp_folder.h"
#include "tests/support/trials.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/manifest.h"

namespace jevons {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFolder[] = "checkpoints/step-00000001";
const std::string kManifest = absl::StrCat(kFolder, "/", kManifestName);

// Opens and reads everything.
absl::Status Load(FileSystem& files, const std::string& folder = kFolder) {
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(files, folder));
  return reader.Verify();
}

class Corruption : public testing::Test {
 protected:
  Corruption() : state_(1) {
    RunLoopback(3, [&](Communicator& world) {
      CheckpointWriter writer(disk_, "checkpoints", world, 1);
      EXPECT_EQ(Save(writer, state_, world), absl::OkStatus());
    });
  }

  ~Corruption() override { EXPECT_EQ(Load(disk_), absl::OkStatus()) << "the test did not put back what it damaged"; }

  // Expects that a load is refused while `damage` has changed the file; returns how it is refused.
  std::string Refusal(const std::string& path, const std::function<void(std::string&)>& damage) {
    std::string& contents = disk_.Contents(path);
    const std::string good = contents;
    damage(contents);
    const absl::Status status = Load(disk_);
    contents = good;
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity) << status;
    return std::string(status.message());
  }

  // The same for a manifest that `change` has changed and that was then sealed anew.
  std::string RefusalOfManifest(const std::function<void(CheckpointManifest&)>& change) {
    return Refusal(kManifest, [&](std::string& contents) {
      CheckpointManifest manifest;
      ASSERT_TRUE(manifest.ParseFromString(contents));
      change(manifest);
      contents = SealManifest(manifest);
    });
  }

  const TestState state_;
  MemoryDisk disk_;
};

TEST_F(Corruption, EveryBitOfTheManifest) {
  const size_t bits = disk_.Contents(kManifest).size() * 8;
  for (size_t bit = 0; bit < bits && !HasFailure(); ++bit) {
    const std::string refusal = Refusal(kManifest, [bit](std::string& bytes) { bytes[bit / 8] ^= 1 << bit % 8; });
    EXPECT_THAT(refusal, AllOf(HasSubstr(kManifest), HasSubstr("use an older one")));
  }
  ReportTrials("bits", static_cast<int64_t>(bits), "all", "each bit of a manifest");
}

TEST_F(Corruption, EveryLengthOfTheManifest) {
  const size_t size = disk_.Contents(kManifest).size();
  for (size_t length = 0; length < size && !HasFailure(); ++length) {
    Refusal(kManifest, [length](std::string& bytes) { bytes.resize(length); });
  }
  Refusal(kManifest, [](std::string& bytes) { bytes += '\0'; });
  Refusal(kManifest, [](std::string& bytes) { bytes += bytes; });
}

TEST_F(Corruption, EveryBitOfAFile) {
  const std::string path = absl::StrCat(kFolder, "/rank-00001.bin");
  const size_t bits = disk_.Contents(path).size() * 8;
  ASSERT_GT(bits, 10000u);
  int64_t flips = 0;
  for (size_t bit = 0; bit < bits && !HasFailure(); bit += 1 + bit % 3) {
    const std::string refusal = Refusal(path, [bit](std::string& bytes) { bytes[bit / 8] ^= 1 << bit % 8; });
    EXPECT_THAT(refusal, AllOf(HasSubstr(path), HasSubstr("tensor "), HasSubstr("chunk 0"), HasSubstr("hash")));
    ++flips;
  }
  ReportTrials("bits", flips, "all", "bits of a rank's file, named by tensor and chunk");
}

TEST_F(Corruption, ReadsOfOtherTensorsStillSucceed) {
  std::string& bytes = disk_.Contents(absl::StrCat(kFolder, "/rank-00000.bin"));
  bytes[0] ^= 1;  // in rank 0's part of the first tensor that it saved
  CheckpointReader reader = CheckpointReader::Open(disk_, kFolder).value();
  std::vector<std::byte> read(state_.bytes(0).size());
  const TensorInfo& first = state_.tensors()[0];
  EXPECT_FALSE(reader.Read(first.name, first.dtype, first.shape, {0, first.shape.size()}, read.data()).ok());
  EXPECT_FALSE(reader.Read(first.name, first.dtype, first.shape, {1, 2}, read.data()).ok());
  EXPECT_FALSE(reader.Read(first.name, first.dtype, first.shape, {1, 2}, read.data()).ok());  // not remembered as good
  const TensorInfo& second = state_.tensors()[1];
  EXPECT_TRUE(reader.Read(second.name, second.dtype, second.shape, {0, second.shape.size()}, read.data()).ok());
  bytes[0] ^= 1;
}

TEST_F(Corruption, WrongSizesOfFiles) {
  const std::string path = absl::StrCat(kFolder, "/rank-00002.bin");
  const size_t size = disk_.Contents(path).size();
  for (const size_t wrong : {size_t{0}, size_t{1}, size / 2, size - 1, size + 1, size * 2}) {
    const std::string refusal = Refusal(path, [wrong](std::string& bytes) { bytes.resize(wrong); });
    EXPECT_THAT(refusal, AllOf(HasSubstr(path), HasSubstr(absl::StrCat(wrong, " bytes")), HasSubstr("damaged")));
  }
}

TEST_F(Corruption, AFileThatShrinksWhileItIsRead) {
  CheckpointReader reader = CheckpointReader::Open(disk_, kFolder).value();
  std::string& bytes = disk_.Contents(absl::StrCat(kFolder, "/rank-00002.bin"));
  const std::string good = bytes;
  bytes.resize(bytes.size() / 2);
  EXPECT_EQ(ExitCodeOf(reader.Verify()), ExitCode::kIntegrity);
  bytes = good;
}

TEST_F(Corruption, MissingAndStrangeFiles) {
  for (const std::string name : {"manifest.pb", "rank-00001.bin"}) {
    const std::string path = absl::StrCat(kFolder, "/", name), aside = absl::StrCat(kFolder, "/aside");
    ASSERT_EQ(disk_.Rename(path, aside), absl::OkStatus());
    absl::Status status = Load(disk_);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
    ASSERT_EQ(disk_.MakeDirectory(path), absl::OkStatus());
    status = Load(disk_);
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
    ASSERT_EQ(disk_.RemoveDirectory(path), absl::OkStatus());
    ASSERT_EQ(disk_.Rename(aside, path), absl::OkStatus());
  }
  ASSERT_TRUE(disk_.Open(absl::StrCat(kFolder, "/notes.txt"), OpenMode::kWrite).ok());
  EXPECT_EQ(Load(disk_), absl::OkStatus());  // others may lie there
}

TEST_F(Corruption, NamesThatLeaveTheFolder) {
  for (const char* name : {"../step-00000001/rank-00000.bin", "/etc/passwd", "..", ".", "", "a/b", ".hidden", "manifest.pb",
                           "tab\t", "a b", "\x7f", "\xc3\xa4"}) {
    EXPECT_THAT(RefusalOfManifest([&](CheckpointManifest& m) { m.mutable_files(0)->set_name(name); }), HasSubstr(kManifest))
        << name;
  }
}

TEST_F(Corruption, ManifestsThatLie) {
  using Manifest = CheckpointManifest;
  const struct {
    const char* says;
    std::function<void(Manifest&)> change;
  } lies[] = {
      {"format_version 2, but this program reads 1", [](Manifest& m) { m.set_format_version(2); }},
      {"step = -1", [](Manifest& m) { m.set_step(-1); }},
      {"label twin is there twice, as entries ",
       [](Manifest& m) {
         for (const char* value : {"1", "2"}) {
           auto* label = m.add_labels();
           label->set_name("twin");
           label->set_value(value);
         }
       }},
      {"listed twice", [](Manifest& m) { m.mutable_files(1)->set_name(m.files(0).name()); }},
      {"bytes = -5", [](Manifest& m) { m.mutable_files(0)->set_bytes(-5); }},
      {"no tensor", [](Manifest& m) { m.mutable_tensors()->DeleteSubrange(2, 1); }},
      {"its slices end at byte", [](Manifest& m) { m.mutable_files(0)->set_bytes(m.files(0).bytes() + 1); }},
      {"out of order or there twice", [](Manifest& m) { m.mutable_tensors()->SwapElements(0, 1); }},
      {"out of order or there twice", [](Manifest& m) { m.mutable_tensors(1)->set_name(m.tensors(0).name()); }},
      {"is not the name of a tensor", [](Manifest& m) { m.mutable_tensors(0)->set_name(""); }},
      {"is not the name of a tensor", [](Manifest& m) { m.mutable_tensors(0)->set_name("a b"); }},
      {"unknown dtype \"F16\"", [](Manifest& m) { m.mutable_tensors(0)->set_dtype("F16"); }},
      {"5 dims, at most 4",
       [](Manifest& m) {
         for (int i = 0; i < 3; ++i) m.mutable_tensors(0)->add_shape(1);
       }},
      {"impossible dim -7", [](Manifest& m) { m.mutable_tensors(0)->set_shape(0, -7); }},
      {"impossible dim", [](Manifest& m) { m.mutable_tensors(0)->set_shape(0, int64_t{1} << 62); }},
      {"impossible dim",
       [](Manifest& m) {
         for (int i = 0; i < 2; ++i) m.mutable_tensors(1)->set_shape(i, int64_t{1} << 40);
       }},
      {"impossible dim",
       [](Manifest& m) {  // 0 * 2^62 has no elements, but no layout either
         m.mutable_tensors(0)->add_shape(0);
         m.mutable_tensors(0)->add_shape(int64_t{1} << 62);
       }},
      {"are missing", [](Manifest& m) { m.mutable_tensors(0)->set_shape(0, m.tensors(0).shape(0) + 1); }},
      {"are missing", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices()->DeleteSubrange(1, 1); }},
      {"are missing", [](Manifest& m) { m.mutable_tensors(1)->clear_slices(); }},
      {"are there twice", [](Manifest& m) { *m.mutable_tensors(1)->add_slices() = m.tensors(1).slices(0); }},
      {"are missing", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices()->SwapElements(0, 2); }},
      {"file 77 of 3", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_file(77); }},
      {"belong to two slices", [](Manifest& m) { m.mutable_tensors(3)->mutable_slices(1)->set_offset(0); }},
      {"reach beyond", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(1)->set_offset(int64_t{1} << 62); }},
      {"reach beyond", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(1)->set_offset(-1); }},
      {"elements, but the tensor has", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_elements(0); }},
      {"elements, but the tensor has", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_elements(-1); }},
      {"elements, but the tensor has",
       [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_elements(int64_t{1} << 62); }},
      {"elements, but the tensor has",
       [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->set_first_element(int64_t{1} << 62); }},
      {"bytes of chunk hashes", [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->clear_chunk_hashes(); }},
      {"bytes of chunk hashes",
       [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->mutable_chunk_hashes()->append("x"); }},
      {"does not match its hash",
       [](Manifest& m) { m.mutable_tensors(1)->mutable_slices(0)->mutable_chunk_hashes()->at(3) ^= 1; }},
  };
  int number = 0;
  for (const auto& lie : lies) {
    EXPECT_THAT(RefusalOfManifest(lie.change), HasSubstr(lie.says)) << "lie " << number;
    ++number;
  }
}

// Bytes changed at random under a right seal: refused or harmless, never a crash.
TEST_F(Corruption, RandomManifests) {
  std::string& contents = disk_.Contents(kManifest);
  const std::string good = contents;
  const std::string body = good.substr(0, good.size() - 18);  // without the seal
  int refused = 0;
  constexpr int kTrials = 20000;
  for (uint64_t trial = 0; trial < kTrials; ++trial) {
    std::string changed = body;
    for (uint64_t change = 0; change <= trial % 4; ++change) {
      const uint64_t draw = RandomBits(trial, 7, change);
      changed[draw % changed.size()] = static_cast<char>(draw >> 56);
    }
    const std::string hash = HashOf(std::as_bytes(std::span(changed)));
    contents = changed + good.substr(good.size() - 18, 2) + hash;
    const absl::Status status = Load(disk_);
    refused += !status.ok();
    EXPECT_TRUE(status.ok() || ExitCodeOf(status) == ExitCode::kIntegrity) << status;
  }
  contents = good;
  EXPECT_GT(refused, kTrials / 2);
}

TEST(CorruptionOnDisk, HugeFilesAndPipesAreRefusedAtOnce) {
  FileSystem& files = PosixFileSystem();
  const TempFolder run;
  const std::string folder = run.path() + "/step-00000001", manifest = folder + "/" + kManifestName;
  ASSERT_EQ(files.MakeDirectory(folder), absl::OkStatus());
  ASSERT_TRUE(files.Open(manifest, OpenMode::kWrite).ok());
  std::filesystem::resize_file(manifest, uintmax_t{1} << 40);  // a hole: it takes no space
  absl::Status status = Load(files, folder);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
  EXPECT_THAT(std::string(status.message()), HasSubstr("too many for a manifest"));
  ASSERT_EQ(files.Remove(manifest), absl::OkStatus());
  ASSERT_EQ(mkfifo(manifest.c_str(), 0600), 0);
  status = Load(files, folder);
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kIntegrity);
}

}  // namespace
}  // namespace jevons
