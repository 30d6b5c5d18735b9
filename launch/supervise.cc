// jevons supervise: a training job that nobody has to look after.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "configs/load.h"
#include "kernels/base/machine.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/data_files.h"
#include "launch/host_table.h"
#include "launch/stop_signal.h"
#include "launch/supervise/agent.h"
#include "launch/supervise/remote_host.h"
#include "launch/supervise/supervisor.h"

namespace jevons {
namespace {

constexpr char kExamples[] =
    "jevons supervise --ranks 4 -- train --config configs/presets/quickstart_cpu.textproto --set data.path=runs/data "
    "--set parallel.ep=4 --output run\n"
    "jevons supervise --hosts hostfile train --config run.textproto --output /shared/run    on several hosts, as long as one is "
    "left";

constexpr char kExplanation[] = R"(
Where a rank dies or hangs it names rank, step and phase, ends the job and starts it again from the newest good checkpoint, on disk or in memory
(checkpoint.memory_interval). With --hosts it has an agent on each host, started by ssh or what OMPI_MCA_plm_rsh_agent says: where a host is
lost the run goes on with the others, in a layout that is legal for them; one on which something fails twice in an hour is left out. RUN/supervise.jsonl
records it, `jevons status RUN` shows it. SIGTERM, SIGINT and SIGUSR1 have the job save a checkpoint and stop. Exit codes are those of train:
  0, 75, 2, 3, 4  train's last, none of which a restart would change; of 3 where a damaged checkpoint is newest and an older one is good it
                  sets the damaged one aside and goes on
  1, 5            the job failed, or a rank died, hung or computed other bits, and restarts are used up)";

struct Options {
  int64_t ranks = 1;
  std::optional<int> restarts;
  double hang_seconds = 4;
  std::string launcher, hosts, agent;
  std::vector<std::string> train;  // "train" and its options
};

// What follows `option`, each time that it is given.
std::vector<std::string> ValuesOf(const std::vector<std::string>& train, const std::string& option) {
  std::vector<std::string> values;
  for (size_t i = 0; i < train.size(); ++i) {
    if (train[i] == option && i + 1 < train.size()) values.push_back(train[i + 1]);
    if (absl::StartsWith(train[i], option + "=")) values.push_back(train[i].substr(option.size() + 1));
  }
  return values;
}

std::vector<std::string> LauncherOf(const Options& options) {
  if (!options.launcher.empty()) return absl::StrSplit(options.launcher, ' ', absl::SkipEmpty());
  if (options.ranks == 1 && options.hosts.empty()) return {};
  std::vector<std::string> command = {"mpirun", "-q", "--bind-to", "none"};
  if (!options.hosts.empty()) return command;
  command.insert(command.end(), {"-np", absl::StrCat(options.ranks)});
  if (options.ranks > UsableCores()) command.push_back("--oversubscribe");
  return command;
}

absl::StatusOr<std::string> ThisProgram() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return FailureError("/proc/self/exe: " + error.message());
  return program.string();
}

// What `train` is told to train.
absl::StatusOr<RunConfig> ConfigOf(const std::vector<std::string>& train) {
  const std::vector<std::string> configs = ValuesOf(train, "--config");
  if (configs.empty())
    return UsageError("--config of train is not given: of several hosts the supervisor chooses layouts, and must know the run");
  return LoadRunConfig(FindFile(configs.back()), ValuesOf(train, "--set"));
}

absl::StatusOr<SuperviseOptions> Prepare(const Options& options) {
  if (options.train.empty() || options.train.front() != "train")
    return UsageError("what to supervise is not given: after the options write `train` and its options");
  if (options.ranks < 1 || options.ranks > kMostRanks)
    return UsageError(absl::StrFormat("--ranks = %d: say 1 to %d", options.ranks, kMostRanks));
  if (options.restarts.value_or(0) < 0) return UsageError(absl::StrFormat("--restarts = %d: say 0 or more", *options.restarts));
  if (!(options.hang_seconds > 0))
    return UsageError(absl::StrFormat("--hang-seconds = %g: say more than 0", options.hang_seconds));
  if (options.ranks > 1 && !options.launcher.empty())
    return UsageError("--ranks and --launcher: the launcher says how many ranks there are; give one of them");
  if (options.ranks > 1 && !options.hosts.empty())
    return UsageError("--ranks and --hosts: the hostfile's slots say how many ranks there are; give one of them");
  const std::vector<std::string> outputs = ValuesOf(options.train, "--output");
  if (outputs.empty() || outputs.back().empty()) return UsageError("--output of train is not given: name the folder of the run");
  SuperviseOptions supervise{.launcher = LauncherOf(options),
                             .train = options.train,
                             .run = outputs.back(),
                             .ranks_are_seen = options.launcher.empty() || !options.hosts.empty(),
                             .restarts = options.restarts,
                             .hang_seconds = options.hang_seconds};
  JEVONS_ASSIGN_OR_RETURN(const std::string program, ThisProgram());
  supervise.train.insert(supervise.train.begin(), program);
  if (options.hosts.empty()) return supervise;
  JEVONS_ASSIGN_OR_RETURN(supervise.config, ConfigOf(options.train));
  return supervise;
}

// The hosts of `hostfile`: this one itself, the others by agents.
absl::StatusOr<Roster> RosterOf(const std::string& hostfile, const std::string& memory_folder,
                                const std::shared_ptr<Host>& here) {
  JEVONS_ASSIGN_OR_RETURN(std::vector<HostSlots> hosts, ReadHostfile(hostfile));
  JEVONS_ASSIGN_OR_RETURN(const std::string program, ThisProgram());
  const char* const shell = std::getenv("OMPI_MCA_plm_rsh_agent");  // mpirun's own
  std::vector<std::string> command = absl::StrSplit(shell != nullptr ? shell : "ssh", ' ', absl::SkipEmpty());
  return Roster(std::move(hosts), [=](const std::string& name) -> absl::StatusOr<std::shared_ptr<Host>> {
    if (name == here->name() || name == "localhost") return here;
    std::vector<std::string> words = command;
    words.insert(words.end(), {name, program, "supervise", "--agent", memory_folder});
    JEVONS_ASSIGN_OR_RETURN(std::shared_ptr<Host> host, RemoteHost::Start(std::move(words)));
    return host;
  });
}

int Supervise(const Options& options, const std::atomic<int>* stop) {
  absl::StatusOr<SuperviseOptions> supervise = Prepare(options);
  if (!supervise.ok()) return Finish(supervise.status());
  supervise->stop = stop;
  const std::string memory_folder = MemoryFolderOf(supervise->run);
  absl::StatusOr<std::unique_ptr<ThisHost>> created = ThisHost::Create(memory_folder);
  if (!created.ok()) return Finish(created.status());
  const std::shared_ptr<ThisHost> here = *std::move(created);
  absl::StatusOr<Roster> roster = options.hosts.empty() ? Roster(here) : RosterOf(options.hosts, memory_folder, here);
  if (!roster.ok()) return Finish(roster.status());
  absl::StatusOr<Journal> journal = Journal::Open(supervise->run);
  if (!journal.ok()) return Finish(journal.status());
  return Supervisor(*supervise, *std::move(journal), *std::move(roster), here->heartbeat_path()).Run();
}

int BeAgent(const std::string& memory_folder) {
  const absl::StatusOr<std::unique_ptr<ThisHost>> host = ThisHost::Create(memory_folder);
  if (!host.ok()) return Finish(host.status());
  ServeAsAgent(**host, STDIN_FILENO, STDOUT_FILENO);
  return 0;
}

}  // namespace

void RegisterSupervise(CLI::App& program, int* exit_code) {
  CLI::App* command = AddCommand(program, "supervise", "Trains, and starts again whenever a rank dies or hangs.", kExamples);
  auto options = std::make_shared<Options>();
  command->add_option("--ranks", options->ranks, "processes on this machine, started by mpirun where there are several")
      ->capture_default_str();
  command
      ->add_option("--launcher", options->launcher,
                   "what starts the ranks instead, words between blanks: mpirun or srun with its options")
      ->type_name("COMMAND");
  command->add_option("--hosts", options->hosts, "several hosts, by a hostfile of mpirun's: lines as \"node1 slots=8\"")
      ->type_name("FILE");
  command->add_option("--agent", options->agent)->group("");  // how a supervisor starts itself on another host
  command->add_option("--restarts", options->restarts,
                      "give up after so many; unless given, after 3 in a row that brought no progress");
  command
      ->add_option(
          "--hang-seconds", options->hang_seconds,
          "a phase of a step may take so long, or ten times what it has taken so far; saving, validation and the start more")
      ->capture_default_str();
  command->add_option("TRAIN", options->train, "train and its options, after `--` or without")->type_name("");
  CLI::App* train = command->add_subcommand("train", "and its options: what to supervise")->prefix_command();
  train->set_help_flag();  // what follows is train's
  command->footer(kExplanation);
  command->callback([options, train, exit_code] {
    if (train->parsed()) {
      options->train = train->remaining();
      options->train.insert(options->train.begin(), "train");
    }
    *exit_code = options->agent.empty() ? Supervise(*options, CatchStopSignals()) : BeAgent(options->agent);
  });
}

}  // namespace jevons
