#include "child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/interrupt.h"
#include "core/error.h"

namespace bitstrata::cli {

int run_child(const std::filesystem::path& executable, const std::vector<std::string>& arguments) {
  std::vector<char*> argv{const_cast<char*>(executable.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child < 0) fail(ErrorCode::kIo, "cannot start {}: {}", executable.string(), std::strerror(errno));
  if (child == 0) {
    // Ctrl-C reaches all of a terminal's group, and a second signal would end the child before it has saved:
    // this process alone passes it on.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    const int null = open("/dev/null", O_WRONLY);
    if (null >= 0) dup2(null, STDOUT_FILENO);
    execv(executable.c_str(), argv.data());
    _exit(127);
  }
  bool told = false;
  int status = 0;
  while (true) {
    const pid_t ended = waitpid(child, &status, told ? 0 : WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR)
      fail(ErrorCode::kIo, "cannot wait for {}: {}", executable.string(), std::strerror(errno));
    if (interrupted() && !told) {
      kill(child, SIGTERM);
      told = true;
    }
    if (!told) usleep(50'000);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::filesystem::path this_executable() {
  return std::filesystem::read_symlink("/proc/self/exe");
}

std::filesystem::path light_executable() {
  const auto folder = this_executable().parent_path();
  const auto installed = (folder / "../../bin/bitstrata").lexically_normal(), built = folder / "bitstrata";
  for (const auto& candidate : {built, installed}) {
    if (access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  fail(ErrorCode::kNotFound, "the program 'bitstrata' is neither at {} nor at {}; install both together",
       built.string(), installed.string());
}

}  // namespace bitstrata::cli
