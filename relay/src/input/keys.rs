//! Which key of the guest a browser's key is.
//!
//! In: a `KeyboardEvent.code`, which names the physical key. Out: the `KEY_*` number that a
//! keyboard with that key sends; the guest's own layout then makes a letter of it. All codes of
//! "UI Events KeyboardEvent code Values" are here, those that Linux has no key for with [`NONE`].
//!
//! The one source of this table: `relay/web/keys.mjs`, which the page uses, is written from it
//! (see the tests below).

/// A key that Linux has no number for; `KEY_RESERVED`.
pub const NONE: u16 = 0;

/// The number of a key by its `KeyboardEvent.code`.
pub fn evdev(code: &str) -> Option<u16> {
    let (_, key) = KEYS.iter().find(|(name, _)| *name == code)?;
    (*key != NONE).then_some(*key)
}

/// `KeyboardEvent.code`, `KEY_*` of `include/uapi/linux/input-event-codes.h`.
#[rustfmt::skip]
pub const KEYS: &[(&str, u16)] = &[
    // Writing keys, by their place on an American keyboard.
    ("Backquote", 41), // KEY_GRAVE
    ("Backslash", 43), // KEY_BACKSLASH
    ("BracketLeft", 26), // KEY_LEFTBRACE
    ("BracketRight", 27), // KEY_RIGHTBRACE
    ("Comma", 51), // KEY_COMMA
    ("Digit0", 11), // KEY_0
    ("Digit1", 2), // KEY_1
    ("Digit2", 3), // KEY_2
    ("Digit3", 4), // KEY_3
    ("Digit4", 5), // KEY_4
    ("Digit5", 6), // KEY_5
    ("Digit6", 7), // KEY_6
    ("Digit7", 8), // KEY_7
    ("Digit8", 9), // KEY_8
    ("Digit9", 10), // KEY_9
    ("Equal", 13), // KEY_EQUAL
    ("IntlBackslash", 86), // KEY_102ND
    ("IntlRo", 89), // KEY_RO
    ("IntlYen", 124), // KEY_YEN
    ("KeyA", 30), // KEY_A
    ("KeyB", 48), // KEY_B
    ("KeyC", 46), // KEY_C
    ("KeyD", 32), // KEY_D
    ("KeyE", 18), // KEY_E
    ("KeyF", 33), // KEY_F
    ("KeyG", 34), // KEY_G
    ("KeyH", 35), // KEY_H
    ("KeyI", 23), // KEY_I
    ("KeyJ", 36), // KEY_J
    ("KeyK", 37), // KEY_K
    ("KeyL", 38), // KEY_L
    ("KeyM", 50), // KEY_M
    ("KeyN", 49), // KEY_N
    ("KeyO", 24), // KEY_O
    ("KeyP", 25), // KEY_P
    ("KeyQ", 16), // KEY_Q
    ("KeyR", 19), // KEY_R
    ("KeyS", 31), // KEY_S
    ("KeyT", 20), // KEY_T
    ("KeyU", 22), // KEY_U
    ("KeyV", 47), // KEY_V
    ("KeyW", 17), // KEY_W
    ("KeyX", 45), // KEY_X
    ("KeyY", 21), // KEY_Y
    ("KeyZ", 44), // KEY_Z
    ("Minus", 12), // KEY_MINUS
    ("Period", 52), // KEY_DOT
    ("Quote", 40), // KEY_APOSTROPHE
    ("Semicolon", 39), // KEY_SEMICOLON
    ("Slash", 53), // KEY_SLASH
    // Modifiers and what stands beside them.
    ("AltLeft", 56), // KEY_LEFTALT
    ("AltRight", 100), // KEY_RIGHTALT
    ("Backspace", 14), // KEY_BACKSPACE
    ("CapsLock", 58), // KEY_CAPSLOCK
    ("ContextMenu", 127), // KEY_COMPOSE
    ("ControlLeft", 29), // KEY_LEFTCTRL
    ("ControlRight", 97), // KEY_RIGHTCTRL
    ("Enter", 28), // KEY_ENTER
    ("MetaLeft", 125), // KEY_LEFTMETA
    ("MetaRight", 126), // KEY_RIGHTMETA
    ("ShiftLeft", 42), // KEY_LEFTSHIFT
    ("ShiftRight", 54), // KEY_RIGHTSHIFT
    ("Space", 57), // KEY_SPACE
    ("Tab", 15), // KEY_TAB
    // Japanese and Korean keyboards.
    ("Convert", 92), // KEY_HENKAN
    ("KanaMode", 93), // KEY_KATAKANAHIRAGANA
    ("Lang1", 122), // KEY_HANGEUL
    ("Lang2", 123), // KEY_HANJA
    ("Lang3", 90), // KEY_KATAKANA
    ("Lang4", 91), // KEY_HIRAGANA
    ("Lang5", 85), // KEY_ZENKAKUHANKAKU
    ("NonConvert", 94), // KEY_MUHENKAN
    // The block above the arrows, and the arrows.
    ("Delete", 111), // KEY_DELETE
    ("End", 107), // KEY_END
    ("Help", 138), // KEY_HELP
    ("Home", 102), // KEY_HOME
    ("Insert", 110), // KEY_INSERT
    ("PageDown", 109), // KEY_PAGEDOWN
    ("PageUp", 104), // KEY_PAGEUP
    ("ArrowDown", 108), // KEY_DOWN
    ("ArrowLeft", 105), // KEY_LEFT
    ("ArrowRight", 106), // KEY_RIGHT
    ("ArrowUp", 103), // KEY_UP
    // The number pad.
    ("NumLock", 69), // KEY_NUMLOCK
    ("Numpad0", 82), // KEY_KP0
    ("Numpad1", 79), // KEY_KP1
    ("Numpad2", 80), // KEY_KP2
    ("Numpad3", 81), // KEY_KP3
    ("Numpad4", 75), // KEY_KP4
    ("Numpad5", 76), // KEY_KP5
    ("Numpad6", 77), // KEY_KP6
    ("Numpad7", 71), // KEY_KP7
    ("Numpad8", 72), // KEY_KP8
    ("Numpad9", 73), // KEY_KP9
    ("NumpadAdd", 78), // KEY_KPPLUS
    ("NumpadBackspace", 14), // KEY_BACKSPACE
    ("NumpadClear", 355), // KEY_CLEAR
    ("NumpadClearEntry", 355), // KEY_CLEAR
    ("NumpadComma", 121), // KEY_KPCOMMA
    ("NumpadDecimal", 83), // KEY_KPDOT
    ("NumpadDivide", 98), // KEY_KPSLASH
    ("NumpadEnter", 96), // KEY_KPENTER
    ("NumpadEqual", 117), // KEY_KPEQUAL
    ("NumpadHash", 523), // KEY_NUMERIC_POUND
    ("NumpadMemoryAdd", NONE),
    ("NumpadMemoryClear", NONE),
    ("NumpadMemoryRecall", NONE),
    ("NumpadMemoryStore", NONE),
    ("NumpadMemorySubtract", NONE),
    ("NumpadMultiply", 55), // KEY_KPASTERISK
    ("NumpadParenLeft", 179), // KEY_KPLEFTPAREN
    ("NumpadParenRight", 180), // KEY_KPRIGHTPAREN
    ("NumpadStar", 55), // KEY_KPASTERISK
    ("NumpadSubtract", 74), // KEY_KPMINUS
    // The top row. Linux counts function keys to 24.
    ("Escape", 1), // KEY_ESC
    ("F1", 59), // KEY_F1
    ("F2", 60), // KEY_F2
    ("F3", 61), // KEY_F3
    ("F4", 62), // KEY_F4
    ("F5", 63), // KEY_F5
    ("F6", 64), // KEY_F6
    ("F7", 65), // KEY_F7
    ("F8", 66), // KEY_F8
    ("F9", 67), // KEY_F9
    ("F10", 68), // KEY_F10
    ("F11", 87), // KEY_F11
    ("F12", 88), // KEY_F12
    ("F13", 183), // KEY_F13
    ("F14", 184), // KEY_F14
    ("F15", 185), // KEY_F15
    ("F16", 186), // KEY_F16
    ("F17", 187), // KEY_F17
    ("F18", 188), // KEY_F18
    ("F19", 189), // KEY_F19
    ("F20", 190), // KEY_F20
    ("F21", 191), // KEY_F21
    ("F22", 192), // KEY_F22
    ("F23", 193), // KEY_F23
    ("F24", 194), // KEY_F24
    ("F25", NONE),
    ("F26", NONE),
    ("F27", NONE),
    ("F28", NONE),
    ("F29", NONE),
    ("F30", NONE),
    ("F31", NONE),
    ("F32", NONE),
    ("F33", NONE),
    ("F34", NONE),
    ("F35", NONE),
    ("Fn", 464), // KEY_FN
    ("FnLock", NONE),
    ("PrintScreen", 99), // KEY_SYSRQ
    ("ScrollLock", 70), // KEY_SCROLLLOCK
    ("Pause", 119), // KEY_PAUSE
    // Media and browser keys.
    ("BrowserBack", 158), // KEY_BACK
    ("BrowserFavorites", 156), // KEY_BOOKMARKS
    ("BrowserForward", 159), // KEY_FORWARD
    ("BrowserHome", 172), // KEY_HOMEPAGE
    ("BrowserRefresh", 173), // KEY_REFRESH
    ("BrowserSearch", 217), // KEY_SEARCH
    ("BrowserStop", 128), // KEY_STOP
    ("Eject", 161), // KEY_EJECTCD
    ("LaunchApp1", 144), // KEY_FILE
    ("LaunchApp2", 140), // KEY_CALC
    ("LaunchMail", 155), // KEY_MAIL
    ("MediaPlayPause", 164), // KEY_PLAYPAUSE
    ("MediaSelect", 171), // KEY_CONFIG
    ("MediaStop", 166), // KEY_STOPCD
    ("MediaTrackNext", 163), // KEY_NEXTSONG
    ("MediaTrackPrevious", 165), // KEY_PREVIOUSSONG
    ("Power", 116), // KEY_POWER
    ("Sleep", 142), // KEY_SLEEP
    ("AudioVolumeDown", 114), // KEY_VOLUMEDOWN
    ("AudioVolumeMute", 113), // KEY_MUTE
    ("AudioVolumeUp", 115), // KEY_VOLUMEUP
    ("WakeUp", 143), // KEY_WAKEUP
    // Old keyboards.
    ("Abort", 223), // KEY_CANCEL
    ("Hyper", NONE),
    ("Resume", NONE),
    ("Super", 125), // KEY_LEFTMETA
    ("Suspend", 205), // KEY_SUSPEND
    ("Turbo", NONE),
    ("Again", 129), // KEY_AGAIN
    ("Copy", 133), // KEY_COPY
    ("Cut", 137), // KEY_CUT
    ("Find", 136), // KEY_FIND
    ("Open", 134), // KEY_OPEN
    ("Paste", 135), // KEY_PASTE
    ("Props", 130), // KEY_PROPS
    ("Select", 353), // KEY_SELECT
    ("Undo", 131), // KEY_UNDO
    ("Hiragana", 91), // KEY_HIRAGANA
    ("Katakana", 90), // KEY_KATAKANA
    ("Unidentified", NONE),
    // In no specification; Chromium and Firefox report them.
    ("BrightnessDown", 224), // KEY_BRIGHTNESSDOWN
    ("BrightnessUp", 225), // KEY_BRIGHTNESSUP
    ("DisplayToggleIntExt", 227), // KEY_SWITCHVIDEOMODE
    ("KeyboardBacklightToggle", 228), // KEY_KBDILLUMTOGGLE
    ("KeyboardLayoutSelect", 374), // KEY_KEYBOARD
    ("LaunchAssistant", 583), // KEY_ASSISTANT
    ("LaunchControlPanel", 579), // KEY_CONTROLPANEL
    ("LaunchScreenSaver", 581), // KEY_SCREENSAVER
    ("MailForward", 233), // KEY_FORWARDMAIL
    ("MailReply", 232), // KEY_REPLY
    ("MailSend", 231), // KEY_SEND
    ("MediaFastForward", 208), // KEY_FASTFORWARD
    ("MediaPause", 201), // KEY_PAUSECD
    ("MediaPlay", 207), // KEY_PLAY
    ("MediaRecord", 167), // KEY_RECORD
    ("MediaRewind", 168), // KEY_REWIND
    ("MicrophoneMuteToggle", 248), // KEY_MICMUTE
    ("PrivacyScreenToggle", 633), // KEY_PRIVACY_SCREEN_TOGGLE
    ("SelectTask", 580), // KEY_APPSELECT
    ("ShowAllWindows", 120), // KEY_SCALE
    ("ZoomToggle", 372), // KEY_FULL_SCREEN
    // Names of older browsers.
    ("OSLeft", 125), // KEY_LEFTMETA
    ("OSRight", 126), // KEY_RIGHTMETA
    ("VolumeDown", 114), // KEY_VOLUMEDOWN
    ("VolumeMute", 113), // KEY_MUTE
    ("VolumeUp", 115), // KEY_VOLUMEUP
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, fmt::Write};

    /// The page's copy of the table.
    fn module() -> String {
        let mut text = String::from(
            "// KeyboardEvent.code → KEY_* of Linux, and nothing for keys that Linux does not have.\n\
             // Written from relay/src/input/keys.rs, which a test there checks; do not edit.\n\n\
             export const KEYS = new Map([\n",
        );
        for (name, key) in KEYS.iter().filter(|(_, key)| *key != NONE) {
            writeln!(text, "  [\"{name}\", {key}],").expect("writing to a String succeeds");
        }
        text.push_str("]);\n");
        text
    }

    #[test]
    fn the_page_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/web/keys.mjs");
        if std::env::var_os("TRANSOM_WRITE").is_some() {
            std::fs::write(path, module()).expect("the source tree is writable");
        }
        let page = std::fs::read_to_string(path).expect("the file is part of the source");
        assert!(page == module(), "TRANSOM_WRITE=1 cargo test writes relay/web/keys.mjs anew");
    }

    #[test]
    fn every_code_of_the_specification_is_here_once() {
        let names: HashSet<_> = KEYS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), KEYS.len(), "a code stands here twice");
        let groups = [
            ("Key", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"),
            ("Digit", "0 1 2 3 4 5 6 7 8 9"),
            ("Intl", "Backslash Ro Yen"),
            ("Lang", "1 2 3 4 5"),
            ("F", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24"),
            ("Arrow", "Down Left Right Up"),
            ("Browser", "Back Favorites Forward Home Refresh Search Stop"),
            ("Media", "PlayPause Select Stop TrackNext TrackPrevious"),
            ("AudioVolume", "Down Mute Up"),
            ("Launch", "App1 App2 Mail"),
            (
                "Numpad",
                "0 1 2 3 4 5 6 7 8 9 Add Backspace Clear ClearEntry Comma Decimal Divide Enter \
                 Equal Hash MemoryAdd MemoryClear MemoryRecall MemoryStore MemorySubtract \
                 Multiply ParenLeft ParenRight Star Subtract",
            ),
            (
                "",
                "Backquote Backslash BracketLeft BracketRight Comma Equal Minus Period Quote \
                 Semicolon Slash AltLeft AltRight Backspace CapsLock ContextMenu ControlLeft \
                 ControlRight Enter MetaLeft MetaRight ShiftLeft ShiftRight Space Tab Convert \
                 KanaMode NonConvert Delete End Help Home Insert PageDown PageUp NumLock Escape \
                 Fn FnLock PrintScreen ScrollLock Pause Eject Power Sleep WakeUp Hyper Super \
                 Turbo Abort Resume Suspend Again Copy Cut Find Open Paste Props Select Undo \
                 Hiragana Katakana Unidentified",
            ),
        ];
        for (prefix, rest) in groups {
            for name in rest.split_whitespace() {
                let name = format!("{prefix}{name}");
                assert!(names.contains(name.as_str()), "{name} is missing");
            }
        }
    }

    #[test]
    fn keys_are_those_of_linux() {
        for (code, key) in [("KeyA", 30), ("Enter", 28), ("IntlYen", 124), ("NumpadEnter", 96)] {
            assert_eq!(evdev(code), Some(key), "{code}");
        }
        assert_eq!(evdev("FnLock"), None);
        assert_eq!(evdev("keyA"), None);
        // BTN_MISC to BTN_GEAR_UP are no keys of a keyboard.
        assert!(KEYS.iter().all(|(_, key)| *key <= 0x2ff && !(0x100..0x160).contains(key)));
    }
}
