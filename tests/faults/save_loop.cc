// Saves step after step until it is killed:
//   save_loop DIRECTORY STEPS mpi               under mpirun
//   save_loop DIRECTORY STEPS RANKS             ranks as threads
// Goes on from the newest checkpoint in DIRECTORY/checkpoints, which must be whole, and stops after STEPS
// saves. Rank r tells its process in DIRECTORY/pid-r; rank 0 keeps the newest step whose commit was reported
// in DIRECTORY/promised.
#include "tests/faults/save_loop.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "parallel/comm/loopback.h"
#include "parallel/comm/mpi.h"
#include "tests/trainer/checkpoint/test_state.h"
#include "trainer/checkpoint/agreement.h"

namespace jevons {
namespace {

// Puts `text` at `path` at once.
absl::Status Tell(const std::string& path, const std::string& text) {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, files.Open(path + ".new", OpenMode::kWrite));
  JEVONS_RETURN_IF_ERROR(WriteAll(*file, std::as_bytes(std::span(text)), path));
  JEVONS_RETURN_IF_ERROR(file->Close());
  return files.Rename(path + ".new", path);
}

absl::StatusOr<int64_t> NewestStep(const std::string& directory) {
  FileSystem& files = PosixFileSystem();
  JEVONS_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, CommittedSteps(files, directory));
  if (steps.empty()) return 0;
  JEVONS_ASSIGN_OR_RETURN(const std::string path, CheckpointPath(files, directory, steps.back()));
  JEVONS_ASSIGN_OR_RETURN(CheckpointReader reader, CheckpointReader::Open(files, path));
  JEVONS_RETURN_IF_ERROR(reader.Verify());
  return reader.step();
}

absl::Status SaveLoop(const std::string& directory, int64_t steps, Communicator& world) {
  const absl::StatusOr<int64_t> newest = NewestStep(directory + "/checkpoints");
  JEVONS_RETURN_IF_ERROR(AgreeOnStatus(world, newest.status()));  // before anyone writes or removes
  CheckpointWriter writer(PosixFileSystem(), directory + "/checkpoints", world, /*keep=*/2);
  JEVONS_RETURN_IF_ERROR(Tell(absl::StrCat(directory, "/pid-", world.rank()), absl::StrCat(getpid())));
  for (int64_t step = *newest + 1; step <= *newest + steps; ++step) {
    const TestState state(step, kSaveLoopScale);
    JEVONS_RETURN_IF_ERROR(writer.Begin(state.Info(), state.Slices(world.rank(), world.size())));
    std::optional<int64_t> committed;
    while (!committed) {
      usleep(200);  // a training step
      JEVONS_ASSIGN_OR_RETURN(committed, writer.Poll());
    }
    if (world.rank() == 0) JEVONS_RETURN_IF_ERROR(Tell(directory + "/promised", absl::StrCat(*committed)));
  }
  return absl::OkStatus();
}

void RunOrExit(const std::string& directory, int64_t steps, Communicator& world) {
  if (const absl::Status status = SaveLoop(directory, steps, world); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::_Exit(static_cast<int>(ExitCodeOf(status)));
  }
}

int Main(int argc, char** argv) {
  int64_t steps = 0;
  if (argc != 4 || !absl::SimpleAtoi(argv[2], &steps)) return 2;
  const std::string directory = argv[1], transport = argv[3];
  if (int ranks = 0; absl::SimpleAtoi(transport, &ranks)) {
    RunLoopback(ranks, [&](Communicator& world) { RunOrExit(directory, steps, world); });
    return 0;
  }
  const auto session = MpiSession::Start(&argc, &argv);
  if (!session.ok()) return 1;
  RunOrExit(directory, steps, (*session)->world());
  return 0;
}

}  // namespace
}  // namespace jevons

int main(int argc, char** argv) { return jevons::Main(argc, argv); }
