//! More connections than there is room for.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rinha::limits::LEDGER_BYTES_DEFAULT;

use crate::cluster::Cluster;
use crate::each_server;
use crate::load::{Pessoa, wait_until};
use crate::server::{Connection, Server, binary, database_url, request};

/// Runs the server with a limit on open files, set where the server cannot raise it again.
fn with_files(files: usize, cluster: &Cluster, arguments: &[&str]) -> Server {
    let server = binary();
    let mut command = Command::new("sh");
    for (name, _) in server.get_envs() {
        command.env_remove(name);
    }
    command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(server.get_program());
    command.args([
        "--log-format=json",
        "--listen=127.0.0.1:0",
        "--database-url",
        &database_url(&cluster.config()),
    ]);
    command.args(arguments);
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    server
}

#[test]
fn one_connection_too_many() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let files = 200;
        let server = with_files(files, &cluster, arguments);
        let mut connections: Vec<Connection> = Vec::new();
        let refused = loop {
            let mut connection = server.connect();
            let answer = connection.ask("GET", "/contagem-pessoas", "");
            if answer.status != 200 {
                // The server closes at once behind this answer.
                assert!(connection.try_receive(false).is_err());
                break answer;
            }
            connections.push(connection);
            assert!(connections.len() < files, "more connections than files");
        };
        println!("{} connections with {files} files", connections.len());
        assert!(connections.len() >= 8);
        assert_eq!(
            (refused.status, refused.header("Retry-After"), refused.header("Connection")),
            (503, Some("1"), Some("close"))
        );
        assert!(refused.text().contains("too many connections"), "{}", refused.text());
        // Connections that are open are served, and a place that one leaves is taken again.
        assert!(connections.iter_mut().all(Connection::is_alive));
        drop(connections.pop());
        wait_until("a free place", || server.ask("GET", "/contagem-pessoas", "").status == 200);
        assert_eq!(connections[0].ask("POST", "/pessoas", &Pessoa::named("dentro").body()).status, 201);
    });
}

#[test]
fn no_file_descriptor_left() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let mut inside = server.connect();
        assert!(inside.is_alive());
        let open = || fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server's files").count();
        // Lowers the limit of the running server from outside; the server sized itself by the limit at its start.
        let limit = |files: usize| {
            let mut command = Command::new("prlimit");
            command.args(["--pid", &server.pid().to_string(), &format!("--nofile={files}:")]);
            command.output().map(|output| output.status.success())
        };
        let before = open();
        match limit(before + 5) {
            Ok(true) => {}
            why => return println!("skipped: prlimit: {why:?}"),
        }
        let mut waiting: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
        let body = Pessoa::named("esperada").body();
        for connection in &mut waiting {
            connection.send(crate::server::request("POST", "/pessoas", &body));
        }
        let complaints =
            || server.log().iter().filter(|line| line.contains("cannot accept a connection")).count();
        wait_until("a complaint", || complaints() > 0);
        // The server goes on serving its open connections, does not spin, and does not fill its log.
        assert_eq!(inside.ask("GET", "/contagem-pessoas", "").status, 200);
        let (began, switches) = (Instant::now(), complaints());
        std::thread::sleep(Duration::from_secs(2));
        let said = complaints() - switches;
        println!("{said} complaints in {:?}", began.elapsed());
        assert!(said <= 4, "{said}");
        assert!(inside.is_alive());

        // Whoever waits is served once others leave: the first ones are answered and go.
        let statuses: Vec<u16> =
            waiting.into_iter().map(|mut connection| connection.receive().status).collect();
        assert_eq!(statuses.iter().filter(|&&status| status == 201).count(), 1);
        assert!(statuses.iter().all(|status| matches!(status, 201 | 422)), "{statuses:?}");
        assert!(server.connect().is_alive());
        wait_until("closed connections", || open() <= before + 1);
    });
}

/// Clients that ask for long answers and do not read them, until the server holds as much as it will.
#[test]
fn answers_that_nobody_reads() {
    const CLIENTS: usize = 100;
    let cluster = Cluster::start();
    let directory = crate::cluster::temporary_directory();
    let listen = format!("unix:{}/core-{{core}}.sock", directory.path().display());
    let server = Server::on(&cluster.config(), &["--cores", "1", "--listen", &listen]);
    // A unix socket holds little: what is not read stays in the server.
    let address = &server.addresses()[1];
    let item = "i".repeat(32);
    for number in 0..50 {
        let stack = vec![item.as_str(); 1800];
        let pessoa = serde_json::json!({
            "apelido": format!("longa{number}"), "nome": "Longa", "nascimento": "2000-01-01", "stack": stack,
        });
        assert_eq!(server.ask("POST", "/pessoas", &pessoa.to_string()).status, 201);
    }
    let mut clients: Vec<Connection> = (0..CLIENTS).map(|_| Connection::open(address)).collect();
    for client in &mut clients {
        client.send(request("GET", "/pessoas?t=longa", ""));
    }
    // The last client asked when the server held all that it may. Requests for short answers are still served.
    let last = clients.last_mut().expect("a client");
    let refused = last.receive();
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")), "{}", refused.text());
    assert!(last.is_closed_by_server());
    assert_eq!(Connection::open(address).ask("GET", "/contagem-pessoas", "").text(), "50");
    let statuses: Vec<u16> =
        clients[..CLIENTS - 1].iter_mut().map(|client| client.receive().status).collect();
    let served = statuses.iter().filter(|&&status| status == 200).count();
    println!("{served} of {CLIENTS} were held, and served when they read");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    let longest = 50 * 64 * 1024;
    assert!((1..=LEDGER_BYTES_DEFAULT / 8 * 7 / (longest * 9 / 10) + 2).contains(&served), "{served}");
    assert_eq!(Connection::open(address).ask("GET", "/pessoas?t=longa", "").status, 200);
}
