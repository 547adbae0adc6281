//! The panels that a controller can have.

/// A panel that Linux's panel-simple knows (`drivers/gpu/drm/panel/panel-simple.c`), which has its timing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Panel {
    /// `ampire,am-480272h3tmqw-t01h`.
    #[default]
    W480,
    /// `edt,etmv570g2dhu`.
    W640,
    /// `dataimage,scf0700c48ggu18`.
    W800,
}

impl Panel {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::W480, Self::W640, Self::W800];

    /// Its size in pixels, as a key has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::W480 => "480x272",
            Self::W640 => "640x480",
            Self::W800 => "800x480",
        }
    }

    /// What its node is compatible with.
    pub const fn compatible(self) -> &'static str {
        match self {
            Self::W480 => "ampire,am-480272h3tmqw-t01h",
            Self::W640 => "edt,etmv570g2dhu",
            Self::W800 => "dataimage,scf0700c48ggu18",
        }
    }

    /// Its pixel clock in hertz.
    pub const fn clock(self) -> u32 {
        match self {
            Self::W480 => 9_000_000,
            Self::W640 => 25_175_000,
            Self::W800 => 33_260_000,
        }
    }
}
