//! A headless Chromium, spoken to over a pipe in the DevTools protocol: no port, no other program between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a browser may take for one thing on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// What Chromium must not do here: call home, look for a GPU, leave files about.
const OPTIONS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with one page. It and all its processes end with this.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    /// What went wrong in the page, and what it asked for from elsewhere.
    complaints: Vec<String>,
    _home: TempDir,
}

/// Where Chromium is. Without it there is nothing to test, which in CI is a failure.
pub(crate) fn find() -> Option<PathBuf> {
    let places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let found = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI needs Chromium: apt-get install chromium");
        eprintln!("skipped: there is no Chromium here (apt-get install chromium)");
    }
    found
}

impl Browser {
    pub(crate) fn start(program: &Path) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(home.path().join("log")).expect("a file");
        let mut command = Command::new("sh");
        // The protocol is on descriptors 3 and 4; what Chromium says by itself is for its log.
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"]).arg(program).args(OPTIONS);
        command.arg(format!("--user-data-dir={}", home.path().join("profile").display())).arg("about:blank");
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "TMPDIR"] {
            command.env(variable, home.path());
        }
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("a shell");
        let input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while output.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop();
                let message = serde_json::from_slice(&bytes).expect("Chromium speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let mut browser =
            Self { child, input, messages, session: String::new(), last_id: 0, complaints: Vec::new(), _home: home };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file as a window of this width sees it, light or dark, and waits until it is there.
    pub(crate) fn open(&mut self, file: &Path, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "media": "", "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme);
        let url = format!("file://{}", file.display());
        let gone = self.call("Page.navigate", json!({ "url": url }));
        assert_eq!(gone.get("errorText"), None, "{url}");
        let until = Instant::now() + PATIENCE;
        while self.next(until)["method"] != "Page.loadEventFired" {}
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let said = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert_eq!(said.get("exceptionDetails"), None, "{expression}");
        said["result"]["value"].clone()
    }

    /// How many elements a selector finds.
    pub(crate) fn count(&mut self, selector: &str) -> u64 {
        let quoted = Value::from(selector).to_string();
        self.value(&format!("document.querySelectorAll({quoted}).length")).as_u64().expect("a number")
    }

    /// The whole page as a PNG file.
    pub(crate) fn screenshot(&mut self) -> Vec<u8> {
        let options = json!({ "format": "png", "captureBeyondViewport": true });
        let taken = self.call("Page.captureScreenshot", options);
        STANDARD.decode(taken["data"].as_str().expect("data")).expect("base64")
    }

    /// The page as it is printed, as a PDF file.
    pub(crate) fn print(&mut self) -> Vec<u8> {
        let printed = self.call("Page.printToPDF", json!({ "printBackground": false }));
        STANDARD.decode(printed["data"].as_str().expect("data")).expect("base64")
    }

    /// What went wrong since the start: errors and warnings on the console, uncaught exceptions, anything that was asked for from
    /// elsewhere.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // What was said before this is answered has been heard then.
        self.value("0");
        std::mem::take(&mut self.complaints)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = Value::from(self.session.as_str());
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("Chromium runs");
        let until = Instant::now() + PATIENCE;
        loop {
            let mut answer = self.next(until);
            if answer["id"] == id {
                assert_eq!(answer.get("error"), None, "{method}");
                return answer["result"].take();
            }
        }
    }

    fn next(&mut self, until: Instant) -> Value {
        let patience = until.saturating_duration_since(Instant::now());
        let message = match self.messages.recv_timeout(patience) {
            Ok(message) => message,
            Err(e @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                let log = std::fs::read_to_string(self._home.path().join("log")).unwrap_or_default();
                panic!("Chromium says nothing ({e}):\n{log}")
            }
        };
        let params = &message["params"];
        let url = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded") => Some(params.to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] != "log" => Some(params.to_string()),
            Some("Network.requestWillBeSent") => Some(url(&params["request"]["url"]))
                .filter(|url| !url.starts_with("file:") && !url.starts_with("data:") && url != "about:blank"),
            _ => None,
        };
        self.complaints.extend(complaint);
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("a process"));
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
