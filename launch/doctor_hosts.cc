#include "launch/doctor_hosts.h"

#include <chrono>
#include <filesystem>
#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launch/cli.h"
#include "launch/host_table.h"
#include "launch/process.h"
#include "launch/runtime.h"
#include "parallel/comm/watchdog.h"

namespace jevons {
namespace {

constexpr double kReach = 30;          // seconds for mpirun to start one rank on a host
constexpr double kJob = 300;           // for all hosts together
constexpr double kDeadline = 30;       // for a rank to come to a call
constexpr double kPairSeconds = 0.05;  // of one direction of a pair

// What mpirun and a rank say in vain, without mpirun's frames: "ssh: connect to host h2 port 22: No route to host".
std::string Complaint(const ProcessResult& result) {
  if (result.timed_out) return "no answer in time";
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(result.err, '\n')) {
    const auto text = absl::StripAsciiWhitespace(line);
    if (!text.empty() && text.find_first_not_of('-') != absl::string_view::npos) lines.emplace_back(text);
    if (lines.size() == 3) break;
  }
  return absl::StrFormat("exit code %d: %s", result.exit_code, absl::StrJoin(lines, " / "));
}

absl::StatusOr<Process> StartMpi(std::vector<std::string> arguments, const std::vector<std::string>& command) {
  arguments.insert(arguments.begin(), {"mpirun", "--bind-to", "none"});
  arguments.insert(arguments.end(), command.begin(), command.end());
  const std::vector<std::string> root = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
  return Process::Start(std::move(arguments), root);
}

// One after the other: an mpirun that ends removes the folder in which one that starts is making its own.
absl::Status Reach(const std::string& program, const std::vector<std::string>& hosts) {
  std::vector<std::string> lines;
  for (const std::string& host : hosts) {
    JEVONS_ASSIGN_OR_RETURN(Process process, StartMpi({"--host", host, "-np", "1"}, {program, "doctor", "--check-ranks", "1"}));
    const ProcessResult result = process.Wait(kReach);
    if (result.exit_code != 0) lines.push_back(absl::StrCat(host, ": ", Complaint(result)));
  }
  if (lines.empty()) return absl::OkStatus();
  return FailureError(
      absl::StrFormat("%d of %d hosts cannot run a rank:\n  %s\n`ssh HOST %s version` must work on each without a question",
                      lines.size(), hosts.size(), absl::StrJoin(lines, "\n  "), program));
}

// Every rank's text, on all ranks, by rank.
std::vector<std::string> GatherTexts(Communicator& world, const std::string& mine) {
  std::vector<int64_t> bytes(static_cast<size_t>(world.size()));
  const auto my_bytes = static_cast<int64_t>(mine.size());
  world.AllGather(std::as_bytes(std::span(&my_bytes, 1)), std::as_writable_bytes(std::span(bytes)));
  std::string all(static_cast<size_t>(std::accumulate(bytes.begin(), bytes.end(), int64_t{0})), ' ');
  world.AllGatherV(std::as_bytes(std::span(mine)), std::as_writable_bytes(std::span(all)), bytes);
  std::vector<std::string> texts;
  size_t next = 0;
  for (const int64_t size : bytes) {
    texts.push_back(all.substr(next, static_cast<size_t>(size)));
    next += static_cast<size_t>(size);
  }
  return texts;
}

int64_t WallClock() { return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count(); }

absl::Status WriteReport(Communicator& world, const RunFolders& folders) {
  HostReport report;
  for (const std::string& text : GatherTexts(world, TextOf(ExamineHost(world, folders)))) {
    JEVONS_ASSIGN_OR_RETURN(HostFacts host, ParseHostFacts(text));
    report.hosts.push_back(std::move(host));
  }
  report.clock_offsets = MeasureClockOffsets(world, WallClock);
  report.pairs = MeasurePairs(world, kPairSeconds);
  if (world.rank() == 0) WriteOut(TextOf(report));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostReport> ExamineHosts(const std::string& program, const std::string& hostfile, const RunFolders& folders) {
  JEVONS_ASSIGN_OR_RETURN(const std::vector<HostSlots> slots, ReadHostfile(hostfile));
  std::vector<std::string> hosts;
  for (const HostSlots& host : slots) hosts.push_back(host.name);
  JEVONS_RETURN_IF_ERROR(Reach(program, hosts));
  std::vector<std::string> command = {program, "doctor", "--hosts", hostfile, "--be-host"};
  if (!folders.output.empty()) command.insert(command.end(), {"--output", std::filesystem::absolute(folders.output)});
  if (!folders.data.empty()) command.insert(command.end(), {"--data", std::filesystem::absolute(folders.data)});
  JEVONS_ASSIGN_OR_RETURN(Process job, StartMpi({"--hostfile", hostfile, "--map-by", "ppr:1:node"}, command));
  const ProcessResult result = job.Wait(kJob);
  const std::string who = absl::StrFormat("a rank on each of %s (rank 0 on the first)", absl::StrJoin(hosts, ", "));
  if (result.exit_code == static_cast<int>(ExitCode::kPeerLost)) {
    const size_t verdict = result.err.find("jevons: lost peer");
    return PeerLostError(absl::StrFormat("%s: %s", who, result.err.substr(verdict, result.err.find('\n', verdict) - verdict)));
  }
  if (result.exit_code != 0) return FailureError(absl::StrFormat("%s: %s", who, Complaint(result)));
  return ParseHostReport(result.out);
}

int BeHost(const RunFolders& folders) {
  const auto session = StartRanks();
  if (!session.ok()) return Finish(session.status());
  SetWatchdogDeadline(kDeadline);
  return FinishRanks(WriteReport((*session)->world(), folders), (*session)->world());
}

}  // namespace jevons
