//! Watched sessions: every one that is cut, stalls or is corrupted is reported with its moment.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Server, load, measured, result, said};

/// An echo that lets `spoil` have each message before it goes back.
fn spoiling(spoil: fn(u64, &mut [u8]) -> bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let echo = move |mut stream: TcpStream| {
        let mut message = [0; 64];
        for nth in 0.. {
            let heard = stream.read_exact(&mut message).is_ok();
            if !heard || !spoil(nth, &mut message) || stream.write_all(&message).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || echo(stream))));
    });
    address
}

fn lost(result: &Value, what: &str) -> Vec<u64> {
    let all = result["lost"].as_array().unwrap();
    let those = all.iter().filter(|loss| loss["what"] == what);
    those.map(|loss| loss["message"].as_u64().unwrap()).collect()
}

const LINE: &str = "--sessions-lost --sessions 3 --size 64 --every 20ms --stall 20s --for 600ms";

#[test]
fn sessions_that_are_kept_are_not_reported() {
    let server = Server::start("echo --threads 2");
    let arguments = "--sessions-lost --sessions 100 --threads 2 --stall 20s --for 500ms";
    let result = measured("tcp-rr", &server.address, arguments);
    assert_eq!(result["lost"].as_array().unwrap().len(), 0, "{result}");
    assert!(result["requests"].as_u64().unwrap() >= 100, "{result}");
}

#[test]
fn a_cut_is_reported_with_its_message_and_moment() {
    let address = spoiling(|nth, _| nth < 4);
    let output = load("tcp-rr", &address, LINE);
    let result = result(&output);
    assert_eq!(lost(&result, "cut"), [4, 4, 4], "{result}");
    assert_eq!(result["requests"], 12, "{result}");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(said(&output).matches(" cut, message 4").count(), 3, "{output:?}");
    for loss in result["lost"].as_array().unwrap() {
        let after = loss["after"].as_f64().unwrap();
        assert!(after > 0.0 && after <= result["seconds"].as_f64().unwrap() + 30.0, "{loss}");
    }
}

#[test]
fn other_bytes_are_reported() {
    let address = spoiling(|nth, message| {
        message[40] ^= u8::from(nth == 2);
        true
    });
    let output = load("tcp-rr", &address, LINE);
    let result = result(&output);
    assert_eq!(lost(&result, "corrupted"), [2, 2, 2], "{result}");
    assert_eq!(result["errors"]["corrupt"], 3, "{result}");
    assert!(said(&output).contains("from byte 40"), "{output:?}");
}

#[test]
fn a_stall_is_reported_and_so_is_its_end() {
    let address = spoiling(|nth, _| {
        if nth == 2 {
            let (_silent, silence) = mpsc::channel::<()>();
            let _ = silence.recv_timeout(Duration::from_millis(700));
        }
        true
    });
    let line = "--sessions-lost --sessions 2 --size 64 --every 20ms --stall 300ms --for 1500ms";
    let result = result(&load("tcp-rr", &address, line));
    assert!(lost(&result, "stalled").iter().filter(|message| **message == 2).count() == 2);
    assert!(lost(&result, "went_on").iter().filter(|message| **message == 2).count() == 2);
    assert!(lost(&result, "cut").is_empty(), "{result}");
}
